//! Sessions of agents: how they begin, how they end, and who is believed.

use std::time::{Duration, Instant};

use model::{ContainerObserved, HostRole};
use proto::{
    session::AgentSays,
    v1::{self, AccessRole, agents_client::AgentsClient, node_status::Readiness},
};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::{
    agent::{Agent, hello, ready},
    fixture::{PATIENCE, Server, eventually, everything, in_time, web},
    founded::Founded,
};

/// The answer to what an agent says first.
pub(crate) async fn refused(server: &Server, first: Option<v1::AgentMessage>) -> Status {
    let (says, messages) = mpsc::channel(1);
    match first {
        Some(first) => says.send(first).await.unwrap(),
        None => drop(says),
    }
    in_time("an answer", server.agents().await.session(ReceiverStream::new(messages))).await.unwrap_err()
}

async fn readiness(server: &Server) -> Readiness {
    let status = server.control().await.status(everything()).await.unwrap().into_inner();
    status.nodes[0].readiness()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_begins_with_hello_in_this_protocol() {
    let server = Server::start().await;
    let first = v1::AgentMessage::from(&AgentSays::Heartbeat { number: 1, usage: None });
    assert_eq!(refused(&server, Some(first)).await.code(), Code::InvalidArgument);
    assert_eq!(refused(&server, None).await.code(), Code::InvalidArgument);

    // Of another version nothing else is read: it may mean anything.
    let other = v1::Hello { protocol_version: proto::PROTOCOL_VERSION + 1, ..v1::Hello::default() };
    let message = Some(v1::agent_message::Message::Hello(other));
    let status = refused(&server, Some(v1::AgentMessage { message })).await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("speaks protocol 2, this server 1"), "{}", status.message());

    let mut nobody = hello(1, Vec::new(), Vec::new());
    nobody.node.id = model::NodeId(1);
    let mut wire = v1::AgentMessage::from(&AgentSays::Hello(nobody));
    if let Some(v1::agent_message::Message::Hello(hello)) = &mut wire.message {
        hello.node = None;
    }
    assert_eq!(refused(&server, Some(wire)).await.code(), Code::InvalidArgument);
    assert!(server.control().await.status(everything()).await.unwrap().into_inner().nodes.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn hello_is_said_once() {
    let server = Server::start().await;
    let agent = Agent::start(&server, 1).await;
    agent.say(AgentSays::Hello(hello(1, Vec::new(), Vec::new()))).await;
    let status = agent.ended().await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("hello is said once"), "{}", status.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_has_one_session_the_last() {
    let server = Server::start().await;
    let mut control = server.control().await;
    let first = Agent::start(&server, 1).await;
    let mut second = Agent::start(&server, 1).await;
    let status = first.ended().await;
    assert!(status.message().contains("the node opened another session"), "{status:?}");
    assert_eq!(readiness(&server).await, Readiness::Ready);
    control.apply(web("replicas: 1")).await.unwrap();
    second.wanted(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_agent_is_gone_is_silent_until_it_comes_back() {
    let server = Server::start().await;
    let mut control = server.control().await;
    let mut agent = Agent::start(&server, 1).await;
    control.apply(web("replicas: 1")).await.unwrap();
    agent.wanted(1).await;
    drop(agent);
    let is = |expected| {
        let server = &server;
        move || async move {
            let is = readiness(server).await;
            if is == expected { Ok(()) } else { Err(is) }
        }
    };
    eventually("the node is silent", is(Readiness::Unknown)).await;
    // It is told everything again.
    let mut agent = Agent::start(&server, 1).await;
    agent.wanted(1).await;
    eventually("the node is ready", is(Readiness::Ready)).await;
}

/// A process that stands still keeps its connection, and would keep its session for ever.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_hangs_loses_its_session_and_its_streams() {
    let server = Server::start().await;
    let mut control = server.control().await;
    let mut agent = Agent::start(&server, 1).await;
    let list = tokio::spawn(async move { control.list_images(v1::ListImagesRequest::default()).await });
    let _relay = agent.relay().await;
    let began = Instant::now();
    agent.hang();
    let status = tokio::time::timeout(Duration::from_secs(30), list).await.unwrap().unwrap().unwrap_err();
    assert_eq!(proto::reason::reason(&status), Some(v1::Reason::NodeSilent), "{status:?}");
    assert!(began.elapsed() > Duration::from_secs(5), "a pause is no silence");
    eventually("the node is silent", || async {
        let is = readiness(&server).await;
        if is == Readiness::Unknown { Ok(()) } else { Err(is) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_does_not_dial_back_is_not_waited_for_long() {
    let server = Server::start().await;
    let mut control = server.control().await;
    let mut agent = Agent::start(&server, 1).await;
    let (mut again, began) = (control.clone(), Instant::now());
    let list = tokio::spawn(async move { control.list_images(v1::ListImagesRequest::default()).await });
    agent.asked().await;
    let status = list.await.unwrap().unwrap_err();
    assert!(status.message().contains("the agent of node n1 did not answer in time"), "{status:?}");
    // Ten seconds, on a machine that does nothing else.
    assert!(began.elapsed() < Duration::from_secs(10) + PATIENCE, "{:?}", began.elapsed());

    // One that goes away while it is asked is not waited for: else these words would be those of before.
    let list = tokio::spawn(async move { again.list_images(v1::ListImagesRequest::default()).await });
    agent.asked().await;
    drop(agent);
    let status = list.await.unwrap().unwrap_err();
    assert!(status.message().contains("the agent of node n1 went away"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_nobody_asked_for_is_refused() {
    let server = Server::start().await;
    let (says, frames) = mpsc::channel(1);
    let open = v1::relay_frame::Frame::Open(v1::relay_frame::RelayOpen { stream: 7 });
    says.send(v1::RelayFrame { frame: Some(open) }).await.unwrap();
    let status = server.agents().await.relay(ReceiverStream::new(frames)).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_removed_again_is_removed() {
    let server = Server::start().await;
    let _agent = Agent::start(&server, 1).await;
    let mut control = server.control().await;
    let status = control.status(everything()).await.unwrap().into_inner();
    let id = status.nodes[0].node.as_ref().unwrap().info.as_ref().unwrap().id;
    let remove = |node: String| v1::ChangeNodeRequest {
        node,
        change: Some(v1::change_node_request::Change::Remove(v1::change_node_request::Remove {
            force: true,
        })),
    };
    let id = model::NodeId(id).to_string();
    for _ in 0..2 {
        in_time("an answer", control.change_node(remove(id.clone()))).await.unwrap();
    }
    let unknown = control.change_node(remove(model::NodeId(77).to_string())).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound, "{unknown:?}");
}

/// Else one agent could fill the memory of the leader, and of whoever follows it.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_replica_an_agent_is_heard_on_each_of_its_containers_and_no_more() {
    let server = Server::start().await;
    let mut control = server.control().await;
    let mut agent = Agent::start(&server, 1).await;
    control.apply(web("replicas: 1")).await.unwrap();
    let replica = agent.wanted(1).await[0].replica;
    let mut said = ready(replica);
    let main = said.containers[0].clone();
    said.containers.extend((0..1_000).map(|_| main.clone()));
    said.containers.insert(0, ContainerObserved { name: "nobodys".parse().unwrap(), ..main });
    agent.report(vec![said]).await;
    let seen = eventually("the replica is seen", || async {
        let status = control.clone().status(everything()).await.unwrap().into_inner();
        status.services[0].replicas[0].observed.clone().ok_or("nothing of it")
    });
    let names: Vec<String> = seen.await.containers.into_iter().map(|container| container.name).collect();
    assert_eq!(names, ["main"]);
}

/// The places in which sessions are opened are for all nodes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_opens_ever_more_sessions_keeps_out_no_other() {
    /// More than there are places.
    const MANY: usize = 1_100;
    /// Less than who says no hello holds its place.
    const SOON: Duration = Duration::from_secs(5);
    let founded = Founded::start().await;
    // Once there is one, the authority is known that signs certificates.
    founded.token("ci", AccessRole::Viewer, &[], None).await;
    let hostile = AgentsClient::new(founded.as_host(HostRole::Agent).await);
    let mut silent = Vec::new();
    let mut opened = JoinSet::new();
    for _ in 0..MANY {
        let (says, messages) = mpsc::channel(1);
        silent.push(says);
        let mut hostile = hostile.clone();
        opened.spawn(async move { hostile.session(ReceiverStream::new(messages)).await.map(drop) });
    }
    // What comes after them over their connection is answered after they were taken in.
    let mut relay = hostile.clone();
    let refused = in_time("an answer", relay.relay(tokio_stream::empty())).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    timeout(SOON, Agent::start(&founded.server, 1)).await.expect("another node's session");
    assert!(opened.try_join_next().is_none(), "they still wait");
}
