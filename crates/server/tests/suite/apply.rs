//! What users declare, and what they see of it.

use proto::v1::{self, apply_result::Outcome};

use crate::{
    agent::Agent,
    fixture::{Server, apply_of, declaration, eventually, everything, key, web},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_is_seen_placed_and_told() {
    let server = Server::start().await;
    let mut agent = Agent::start(&server, 1).await;
    let mut control = server.control().await;
    let applied = control.apply(web("replicas: 2")).await.unwrap().into_inner().results.remove(0);
    assert_eq!(applied.outcome(), Outcome::Created);
    assert_eq!((applied.generation, applied.revision, applied.rollout), (1, 1, true));
    assert_eq!((applied.service, applied.previous), (Some(key("web")), None));
    let resolved = applied.resolved.unwrap().template.unwrap().main.unwrap().image.unwrap();
    assert_eq!(resolved.digest, Some(crate::agent::digest(1).to_string()));

    agent.wanted(2).await;
    agent.run_all().await;
    let status = eventually("both are ready", || {
        let mut control = control.clone();
        async move {
            let status = control.status(everything()).await.unwrap().into_inner();
            if status.services[0].available == 2 { Ok(status) } else { Err(status) }
        }
    })
    .await;
    assert_eq!(status.nodes[0].replicas, 2);
    assert_eq!(status.nodes[0].readiness(), v1::node_status::Readiness::Ready);
    assert_eq!(status.services[0].replicas[0].node_name.as_deref(), Some("n1"));
    let words = |event: &v1::Event| model::Event::try_from(event.clone()).unwrap().kind.to_string();
    let story: Vec<String> = status.events.iter().map(words).collect();
    assert!(story[0].contains("registered") && story[1] == "created", "{story:#?}");

    let mut again = web("replicas: 2");
    again.dry_run = true;
    let unchanged = control.apply(again).await.unwrap().into_inner().results.remove(0);
    assert_eq!(unchanged.outcome(), Outcome::Unchanged);
}

#[tokio::test(flavor = "multi_thread")]
async fn scale_restart_undo_and_delete_go_their_way() {
    let server = Server::start().await;
    let mut agent = Agent::start(&server, 1).await;
    let mut control = server.control().await;
    control.apply(web("replicas: 1")).await.unwrap();
    agent.wanted(1).await;
    agent.run_all().await;

    let scaled = v1::ScaleRequest { service: Some(key("web")), replicas: 2 };
    let scaled = control.scale(scaled).await.unwrap().into_inner();
    assert_eq!((scaled.previous_replicas, scaled.generation, scaled.revision), (1, 2, 1));
    agent.wanted(2).await;
    agent.run_all().await;
    eventually("the rollout is over", || is_completed(&server)).await;

    let restarted =
        control.restart(v1::RestartRequest { service: Some(key("web")) }).await.unwrap().into_inner();
    assert_eq!((restarted.generation, restarted.revision), (3, 2));
    let undone = v1::UndoRequest { service: Some(key("web")), to_revision: None };
    let undone = control.undo(undone).await.unwrap().into_inner();
    assert_eq!((undone.generation, undone.revision), (4, 1));

    control.delete(v1::DeleteRequest { services: vec![key("web")] }).await.unwrap();
    agent.wanted(0).await;
}

async fn is_completed(server: &Server) -> Result<(), String> {
    let status = server.control().await.status(everything()).await.unwrap().into_inner();
    let service = model::Service::try_from(status.services[0].service.clone().unwrap()).unwrap();
    match service.rollout.phase.as_str() {
        "completed" => Ok(()),
        other => Err(other.to_owned()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_would_be_and_writes_nothing() {
    let server = Server::start().await;
    let _agent = Agent::start(&server, 1).await;
    let mut control = server.control().await;
    let mut request = web("replicas: 3");
    request.dry_run = true;
    let planned = control.apply(request).await.unwrap().into_inner().results.remove(0);
    assert_eq!(planned.outcome(), Outcome::Created);
    assert!(control.status(everything()).await.unwrap().into_inner().services.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_users_at_once_are_each_answered() {
    let server = Server::start().await;
    let _agent = Agent::start(&server, 1).await;
    let one = |number: usize| {
        let mut control = futures_util::FutureExt::boxed(server.control());
        async move {
            let request = apply_of([declaration(&format!("s{number}"), "image: hello")]);
            (&mut control).await.apply(request).await.unwrap().into_inner().results.remove(0)
        }
    };
    let answers = futures_util::future::join_all((0..64).map(one)).await;
    for (number, answer) in answers.into_iter().enumerate() {
        assert_eq!((answer.outcome(), answer.service), (Outcome::Created, Some(key(&format!("s{number}")))));
    }
}
