//! Logs of several replicas, of nodes that come and go.

use proto::v1::{self, Reason, open};
use tonic::{Status, Streaming};

use crate::{
    agent::{Agent, ready},
    fixture::{Control, Server, in_time, key, until_ready, web},
};

fn request(follow: bool) -> v1::LogsRequest {
    v1::LogsRequest { service: "web".to_owned(), follow, tail: Some(3), ..v1::LogsRequest::default() }
}

async fn logs(control: &mut Control, request: v1::LogsRequest) -> Streaming<v1::LogLine> {
    control.logs(request).await.unwrap().into_inner()
}

async fn line(lines: &mut Streaming<v1::LogLine>) -> String {
    let line = in_time("a line", lines.message()).await.unwrap().expect("the stream goes on");
    String::from_utf8(line.text.to_vec()).unwrap()
}

async fn end(lines: &mut Streaming<v1::LogLine>) -> Result<(), Status> {
    let end = in_time("the end", lines.message()).await?;
    assert_eq!(end, None, "the stream goes on");
    Ok(())
}

/// A service with so many replicas that run on one node.
async fn running(server: &Server, replicas: usize) -> (Control, Agent) {
    let mut control = server.control().await;
    let mut agent = Agent::start(server, 1).await;
    control.apply(web(&format!("replicas: {replicas}"))).await.unwrap();
    agent.wanted(replicas).await;
    agent.run_all().await;
    until_ready(server, replicas as u32).await;
    (control, agent)
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_all_replicas_come_together() {
    let server = Server::start().await;
    let (mut control, mut agent) = running(&server, 2).await;
    let mut lines = logs(&mut control, request(false)).await;
    for _ in 0..2 {
        let relay = agent.relay().await;
        let open::Request::Logs(wanted) = &relay.request else { panic!("{:?}", relay.request) };
        assert_eq!(wanted.request.as_ref().unwrap().tail, Some(3));
        relay.line(1, 1, "a line").await;
        relay.end().await;
    }
    assert_eq!((line(&mut lines).await.as_str(), line(&mut lines).await.as_str()), ("a line", "a line"));
    end(&mut lines).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_that_fails_does_not_keep_back_the_others() {
    let server = Server::start().await;
    let (mut control, mut agent) = running(&server, 2).await;
    let mut lines = logs(&mut control, request(false)).await;
    let (first, second) = (agent.relay().await, agent.relay().await);
    first.fail("this node has no logs of the replica (any more)").await;
    second.line(2, 1, "all is well").await;
    second.end().await;
    assert_eq!(line(&mut lines).await, "all is well");
    let status = end(&mut lines).await.unwrap_err();
    assert!(status.message().contains("no logs of the replica"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_vanishes_in_the_middle_is_no_end() {
    let server = Server::start().await;
    let (mut control, mut agent) = running(&server, 1).await;
    let mut lines = logs(&mut control, request(false)).await;
    let relay = agent.relay().await;
    relay.line(1, 1, "half of").await;
    assert_eq!(line(&mut lines).await, "half of");
    drop((agent, relay));
    let status = end(&mut lines).await.unwrap_err();
    assert_eq!(proto::reason::reason(&status), Some(Reason::NodeSilent), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_gets_replicas_that_start_later() {
    let server = Server::start().await;
    let (mut control, mut agent) = running(&server, 1).await;
    let mut lines = logs(&mut control, request(true)).await;
    let first = agent.relay().await;
    first.line(1, 1, "one").await;
    assert_eq!(line(&mut lines).await, "one");

    control.scale(v1::ScaleRequest { service: Some(key("web")), replicas: 2 }).await.unwrap();
    agent.wanted(2).await;
    agent.run_all().await;
    let second = agent.relay().await;
    let open::Request::Logs(wanted) = &second.request else { panic!("{:?}", second.request) };
    assert_eq!(wanted.request.as_ref().unwrap().tail, None, "everything of it is new");
    second.line(2, 2, "two").await;
    assert_eq!(line(&mut lines).await, "two");

    // That one of them has ended for good is no end of the whole.
    first.end().await;
    second.line(2, 3, "three").await;
    assert_eq!(line(&mut lines).await, "three");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_a_service_without_replicas_waits_for_one() {
    let server = Server::start().await;
    let (mut control, mut agent) = running(&server, 0).await;
    let mut lines = logs(&mut control, request(true)).await;
    control.scale(v1::ScaleRequest { service: Some(key("web")), replicas: 1 }).await.unwrap();
    agent.wanted(1).await;
    agent.run_all().await;
    let relay = agent.relay().await;
    relay.line(1, 1, "at last").await;
    assert_eq!(line(&mut lines).await, "at last");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_goes_on_when_the_agent_is_back() {
    let server = Server::start().await;
    let (mut control, mut agent) = running(&server, 1).await;
    let replica = agent.wanted(1).await.remove(0).replica;
    let mut lines = logs(&mut control, request(true)).await;
    let relay = agent.relay().await;
    for text in ["a", "b", "c"] {
        relay.line(1, 10_000_000_000, text).await;
        assert_eq!(line(&mut lines).await, text);
    }
    drop((agent, relay));

    let mut agent = Agent::start_with(&server, 1, vec![ready(replica)]).await;
    let relay = agent.relay().await;
    let open::Request::Logs(wanted) = &relay.request else { panic!("{:?}", relay.request) };
    let wanted = wanted.request.as_ref().unwrap();
    assert_eq!((wanted.tail, wanted.since_unix_ms), (None, Some(5_000)));
    // The node tells again what it told, three lines of one moment, and what was written meanwhile.
    for text in ["a", "b", "c", "d"] {
        relay.line(1, 10_000_000_000, text).await;
    }
    assert_eq!(line(&mut lines).await, "d");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_no_replica_has_ends_also_a_stream_that_follows() {
    let server = Server::start().await;
    let (mut control, mut agent) = running(&server, 2).await;
    let mut lines = logs(&mut control, request(true)).await;
    for _ in 0..2 {
        agent.relay().await.fail("the replica has no container side").await;
    }
    let status = end(&mut lines).await.unwrap_err();
    assert!(status.message().contains("no container side"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_goes_away_ends_it_on_the_node() {
    let server = Server::start().await;
    let (mut control, mut agent) = running(&server, 1).await;
    let lines = logs(&mut control, request(true)).await;
    let mut relay = agent.relay().await;
    drop(lines);
    relay.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_service_is_the_end_of_its_logs() {
    let server = Server::start().await;
    let (mut control, mut agent) = running(&server, 1).await;
    let replica = agent.wanted(1).await.remove(0).replica;
    let mut lines = logs(&mut control, request(true)).await;
    let relay = agent.relay().await;
    control.delete(v1::DeleteRequest { services: vec![key("web")] }).await.unwrap();
    agent.wanted(0).await;
    relay.line(1, 1, "bye").await;
    relay.end().await;
    assert_eq!(line(&mut lines).await, "bye");
    agent.report(vec![model::Observed { phase: model::Phase::Removed, ..ready(replica) }]).await;
    end(&mut lines).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_has_no_logs() {
    let server = Server::start().await;
    let (mut control, _agent) = running(&server, 1).await;
    let slot = v1::replica_selector::Replica::Slot(2);
    let cases = [
        ("there is no service none", v1::LogsRequest { service: "none".to_owned(), ..request(false) }),
        (
            "no replica in slot 2",
            v1::LogsRequest { replica: Some(v1::ReplicaSelector { replica: Some(slot) }), ..request(true) },
        ),
    ];
    for (words, request) in cases {
        let status = control.logs(request).await.unwrap_err();
        assert_eq!(proto::reason::reason(&status), Some(Reason::NotFound), "{status:?}");
        assert!(status.message().contains(words), "{}", status.message());
    }
}
