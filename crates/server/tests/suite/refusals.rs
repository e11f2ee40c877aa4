//! What is refused: with which status, which reason for programs, and in which words.

use proto::{reason::reason, v1, v1::Reason};
use tonic::{Code, Status};

use crate::{
    agent::Agent,
    fixture::{Control, Server, apply_of, declaration, everything, key, web},
};

#[track_caller]
fn check(status: &Status, code: Code, expected: Option<Reason>, words: &str) {
    assert_eq!((status.code(), reason(status)), (code, expected), "{status:?}");
    assert!(status.message().contains(words), "{words:?} is not in {:?}", status.message());
}

async fn apply(control: &mut Control, request: v1::ApplyRequest) -> Status {
    control.apply(request).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_with_its_reason() {
    let server = Server::start().await;
    let mut control = server.control().await;
    let refused = apply(&mut control, web("")).await;
    check(&refused, Code::Unavailable, Some(Reason::NodeSilent), "no node has joined the cluster yet");

    let _agent = Agent::start(&server, 1).await;
    let unknown = apply_of([declaration("web", "image: nothing"), declaration("db", "image: neither")]);
    let refused = apply(&mut control, unknown).await;
    check(&refused, Code::FailedPrecondition, Some(Reason::ImageUnresolved), "\"nothing\" of service web");
    check(&refused, Code::FailedPrecondition, Some(Reason::ImageUnresolved), "\"neither\" of service db");

    control.apply(web("ports: [{ name: http, port: 80, publish: 8080 }]")).await.unwrap();
    let taken =
        apply_of([declaration("db", "image: hello\nports: [{ name: http, port: 80, publish: 8080 }]")]);
    let refused = apply(&mut control, taken).await;
    check(
        &refused,
        Code::FailedPrecondition,
        Some(Reason::PortTaken),
        "service db cannot publish port 8080/tcp: service web does",
    );

    let mut only_new = declaration("web", "image: hello");
    only_new.expects_version = Some(0);
    let refused = apply(&mut control, apply_of([only_new])).await;
    check(&refused, Code::Aborted, Some(Reason::Conflict), "was changed meanwhile");

    let scale = v1::ScaleRequest { service: Some(key("none")), replicas: 1 };
    let refused = control.scale(scale).await.unwrap_err();
    check(&refused, Code::NotFound, Some(Reason::NotFound), "there is no service none");

    let undo = v1::UndoRequest { service: Some(key("web")), to_revision: Some(7) };
    let refused = control.undo(undo).await.unwrap_err();
    check(&refused, Code::NotFound, Some(Reason::NoRevision), "no revision 7");
    let undo = v1::UndoRequest { service: Some(key("web")), to_revision: None };
    let refused = control.undo(undo).await.unwrap_err();
    check(&refused, Code::NotFound, Some(Reason::NoRevision), "no stable revision");

    let delete = v1::DeleteRequest { services: vec![key("web"), key("none")] };
    let refused = control.delete(delete).await.unwrap_err();
    check(&refused, Code::NotFound, Some(Reason::NotFound), "there is no service none");
    assert_eq!(control.status(everything()).await.unwrap().into_inner().services.len(), 1);

    control.delete(v1::DeleteRequest { services: vec![key("web")] }).await.unwrap();
    let restart = v1::RestartRequest { service: Some(key("web")) };
    let refused = control.restart(restart).await.unwrap_err();
    check(&refused, Code::FailedPrecondition, Some(Reason::Deleting), "web is being deleted");
}

/// A client that makes its own messages is held to what a manifest could say.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_manifest_could_say_is_refused() {
    let server = Server::start().await;
    let _agent = Agent::start(&server, 1).await;
    let mut control = server.control().await;
    type Spoil = fn(&mut v1::ServiceDeclaration);
    let template = |declared: &mut v1::ServiceDeclaration| {
        declared.spec.as_mut().unwrap().template.as_mut().unwrap().main.clone().unwrap()
    };
    let cases: [(&str, Spoil); 7] = [
        ("no service is named", |declared| declared.service = None),
        ("service web: the declaration has no spec", |declared| declared.spec = None),
        ("service web: field template is required", |declared| {
            declared.spec.as_mut().unwrap().template = None
        }),
        ("10000", |declared| declared.spec.as_mut().unwrap().replicas = 10_001),
        ("not 'U'", |declared| declared.service.as_mut().unwrap().name = "Upper".to_owned()),
        ("side", |declared| {
            let template = declared.spec.as_mut().unwrap().template.as_mut().unwrap();
            let side = v1::ContainerSpec { name: "side".to_owned(), ..template.main.clone().unwrap() };
            template.sidecars = vec![side.clone(), side];
        }),
        ("capabilit", |declared| {
            let main = declared.spec.as_mut().unwrap().template.as_mut().unwrap().main.as_mut().unwrap();
            main.capabilities.get_or_insert_default().add = vec!["NONSENSE".to_owned()];
        }),
    ];
    for (words, spoil) in cases {
        let mut declared = declaration("web", "image: hello");
        assert_eq!(template(&mut declared).name, "main");
        spoil(&mut declared);
        let refused = apply(&mut control, apply_of([declared])).await;
        check(&refused, Code::InvalidArgument, Some(Reason::Invalid), words);
    }
    let twice = apply_of([declaration("web", "image: hello"), declaration("web", "image: hello")]);
    let refused = apply(&mut control, twice).await;
    check(&refused, Code::InvalidArgument, Some(Reason::Invalid), "service web is declared twice");
    assert!(control.status(everything()).await.unwrap().into_inner().services.is_empty());

    control.apply(web("")).await.unwrap();
    let scale = v1::ScaleRequest { service: Some(key("web")), replicas: 10_001 };
    let refused = control.scale(scale).await.unwrap_err();
    check(&refused, Code::InvalidArgument, Some(Reason::Invalid), "10001 replicas are more than 10000");
}
