//! Watching: the whole again whenever something changed, never back in time, and as fast as the watcher takes it.

use proto::v1::{self, Reason};

use crate::{
    agent::Agent,
    fixture::{Server, apply_of, declaration, everything, in_time, key, web},
};

async fn next(watch: &mut tonic::Streaming<v1::StatusResponse>) -> v1::StatusResponse {
    in_time("an update", watch.message()).await.unwrap().expect("the watch goes on")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_begins_with_what_is_and_tells_what_changes() {
    let server = Server::start().await;
    let mut agent = Agent::start(&server, 1).await;
    let mut control = server.control().await;
    control.apply(web("replicas: 1")).await.unwrap();
    let mut watch = control.watch(everything()).await.unwrap().into_inner();
    let mut last = next(&mut watch).await;
    assert_eq!(last.services.len(), 1);
    agent.wanted(1).await;
    agent.run_all().await;
    while last.services[0].available < 1 {
        let update = next(&mut watch).await;
        assert!(update.version >= last.version, "{} after {}", update.version, last.version);
        last = update;
    }
}

/// Of one service only what is its own; nothing else makes an answer.
#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_asked_for_is_told() {
    let server = Server::start().await;
    let _agent = Agent::start(&server, 1).await;
    let mut control = server.control().await;
    control.apply(web("replicas: 0")).await.unwrap();
    let keys = vec![key("web")];
    let services = Some(v1::status_request::Services::Named(v1::status_request::ServiceKeys { keys }));
    let request = v1::StatusRequest { services, ..v1::StatusRequest::default() };
    let mut watch = control.watch(request).await.unwrap().into_inner();
    let first = next(&mut watch).await;
    assert!(first.nodes.is_empty() && first.events.is_empty());
    for number in 0..5 {
        control.apply(apply_of([declaration(&format!("s{number}"), "image: hello")])).await.unwrap();
    }
    control.scale(v1::ScaleRequest { service: Some(key("web")), replicas: 1 }).await.unwrap();
    let update = next(&mut watch).await;
    assert_eq!(update.services.len(), 1);
    assert_ne!(update.services, first.services, "nothing of it had changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_watcher_gets_the_newest_and_holds_up_nobody() {
    const CHANGES: u32 = 300;
    let server = Server::start().await;
    let _agent = Agent::start(&server, 1).await;
    let mut control = server.control().await;
    // Large enough that what the connection takes in advance is few answers.
    let mut declared = declaration("web", "image: hello\nreplicas: 0");
    declared.annotations.insert("notes".to_owned(), "x".repeat(500_000));
    control.apply(apply_of([declared])).await.unwrap();
    let mut watch = control.watch(everything()).await.unwrap().into_inner();
    for replicas in 1..=CHANGES {
        let scale = v1::ScaleRequest { service: Some(key("web")), replicas: replicas % 2 };
        control.scale(scale).await.unwrap();
    }
    let mut answers = 0;
    loop {
        answers += 1;
        let service = next(&mut watch).await.services[0].service.clone().unwrap();
        if service.generation == u64::from(CHANGES) + 1 {
            break;
        }
    }
    assert!(answers < CHANGES / 4, "{answers} answers for {CHANGES} changes");
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_end_with_the_server_and_say_why() {
    let server = Server::start().await;
    let mut control = server.control().await;
    let mut watches = Vec::new();
    for _ in 0..10 {
        let mut watch = control.watch(everything()).await.unwrap().into_inner();
        next(&mut watch).await;
        watches.push(watch);
    }
    server.stop().await;
    for mut watch in watches {
        let status = in_time("the watch ends", watch.message()).await.unwrap_err();
        assert_eq!(proto::reason::reason(&status), Some(Reason::OutcomeUnknown), "{status:?}");
        assert_eq!(status.message(), "the server is shutting down");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_goes_away_is_no_trouble() {
    let server = Server::start().await;
    let _agent = Agent::start(&server, 1).await;
    for number in 0..50 {
        let mut control = server.control().await;
        let mut watch = control.watch(everything()).await.unwrap().into_inner();
        next(&mut watch).await;
        drop((watch, control));
        let mut control = server.control().await;
        control.apply(apply_of([declaration(&format!("s{number}"), "image: hello")])).await.unwrap();
    }
}
