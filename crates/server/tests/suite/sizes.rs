//! Large messages: what is possible, and how the rest is refused.

use proto::v1;
use tonic::Code;

use crate::{
    agent::Agent,
    fixture::{Server, apply_of, declaration, everything},
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
