//! Large messages and long words: what is possible, and what becomes of the rest.

use std::collections::HashMap;

use model::{Assignment, Exit, ExitCause, Millis, Name, Observed, Timestamp};
use proto::{
    session::{AgentSays, ContainerExit, Hello, Report},
    v1::{
        self,
        change_node_request::{Change, Cordon, Drain, Label},
        event::Kind,
        exit::Cause,
    },
};
use tonic::Code;

use crate::{
    agent::{Agent, hello, running},
    fixture::{Server, apply_of, declaration, eventually, everything, web},
    sessions::refused,
};

fn annotated(name: &str, bytes: usize) -> v1::ServiceDeclaration {
    let mut declared = declaration(name, "image: hello\nreplicas: 0");
    declared.annotations.insert("notes".to_owned(), "x".repeat(bytes));
    declared
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_services_are_one_apply() {
    let server = Server::start().await;
    let _agent = Agent::start(&server, 1).await;
    let mut control = server.control().await;
    let services = (0..1_000).map(|number| annotated(&format!("s{number}"), 1_000));
    let results = control.apply(apply_of(services)).await.unwrap().into_inner().results;
    assert_eq!(results.len(), 1_000);
    let server = server.restart().await;
    let status = server.control().await.status(everything()).await.unwrap().into_inner();
    assert_eq!(status.services.len(), 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_whole() {
    let server = Server::start().await;
    let _agent = Agent::start(&server, 1).await;
    let mut control = server.control().await;
    let one = apply_of([annotated("small", 10), annotated("large", 2 << 20)]);
    let refused = control.apply(one).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    assert!(refused.message().contains("a manifest at most 1048576"), "{}", refused.message());

    let all = apply_of((0..70).map(|number| annotated(&format!("s{number}"), 1_000_000)));
    let refused = control.apply(all).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused:?}");
    assert!(control.status(everything()).await.unwrap().into_inner().services.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_users_say_too_much_of_nodes_is_refused() {
    let server = Server::start().await;
    let _agent = Agent::start(&server, 1).await;
    let reason = Some("x".repeat(1_025));
    let set: HashMap<String, String> =
        (0..65).map(|number| (format!("label-{number}"), "yes".to_owned())).collect();
    let changes = [
        (Change::Cordon(Cordon { reason: reason.clone() }), "1024 are the most"),
        (Change::Drain(Drain { within_ms: None, reason }), "1024 are the most"),
        (Change::Label(Label { set: set.into_iter().collect(), unset: Vec::new() }), "64 are the most"),
    ];
    for (change, words) in changes {
        let request = v1::ChangeNodeRequest { node: "n1".to_owned(), change: Some(change) };
        let refused = server.control().await.change_node(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().contains(words), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_says_too_many_labels_is_refused() {
    let server = Server::start().await;
    let Hello { node: mut info, .. } = hello(1, Vec::new(), Vec::new());
    info.labels = (0..65).map(|number| (format!("label-{number}"), String::new())).collect();
    let first = AgentSays::Hello(Hello { node: info, ..hello(1, Vec::new(), Vec::new()) });
    let refused = refused(&server, Some((&first).into())).await;
    assert!(refused.message().contains("64 are the most"), "{refused:?}");
}

/// What it says of replicas, in the beginning and later, and of how they ended.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_says_too_much_of_its_replicas_is_cut() {
    const MOST: usize = 4_096;
    let long = |letter: &str| letter.repeat(100_000);
    let server = Server::start().await;
    let mut control = server.control().await;
    let mut agent = Agent::start(&server, 1).await;
    control.apply(web("")).await.unwrap();
    let one: Assignment = agent.wanted(1).await.remove(0);
    let replica = one.replica;
    let exit =
        Exit { cause: ExitCause::NotStarted { reason: long("e") }, at: Timestamp(1), ran_for: Millis(1) };
    let container = Name::new("main").unwrap();
    let exited = ContainerExit {
        replica,
        slot: one.slot,
        service: one.service,
        container,
        exit,
        restarts: 0,
        stop: None,
    };
    let observed = Observed { message: Some(long("m")), ..running(replica) };
    agent
        .say(AgentSays::Report(Report { observed: vec![observed], exits: vec![exited], said_at: None }))
        .await;
    let seen = async |letter: char| {
        eventually("what was said is seen", async || {
            let status = server.control().await.status(everything()).await.unwrap().into_inner();
            let observed = status.services[0].replicas[0].observed.clone();
            let message =
                observed.and_then(|observed| observed.message).filter(|said| said.starts_with(letter));
            message.map(|message| (message, status.events)).ok_or("not yet")
        })
        .await
    };
    let (message, _) = seen('m').await;
    assert_eq!(message.len(), MOST);
    let reason = eventually("the exit is told", async || {
        let events = seen('m').await.1;
        let causes = events.into_iter().filter_map(|event| match event.kind? {
            Kind::ContainerExited(exited) => exited.exit?.cause,
            _ => None,
        });
        let mut reasons = causes.filter_map(|cause| match cause {
            Cause::NotStarted(not_started) => Some(not_started.reason),
            _ => None,
        });
        reasons.next().ok_or("not yet")
    })
    .await;
    assert_eq!(reason.len(), MOST);
    drop(agent);
    let observed = Observed { message: Some(long("h")), ..running(replica) };
    let _again = Agent::start_with(&server, 1, vec![observed]).await;
    assert_eq!(seen('h').await.0.len(), MOST);
}
