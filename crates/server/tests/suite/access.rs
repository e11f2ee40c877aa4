//! Who may ask what over TLS, and what is written down of it. Every call of every service is walked over.

use std::{fmt::Write as _, fs, path::Path, time::Duration};

use model::{ClusterId, HostRole};
use proto::v1::{self, AccessRole, control_client::ControlClient};
use tonic::{Code, Request, Status, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;
use trust::token::access::AccessTokenText;

use crate::{
    fixture::{eventually, everything, in_time, web},
    founded::{Founded, bearer, now, with},
};

/// An empty message to any call, and what came of it.
async fn ask(channel: &Channel, path: &str, headers: &[(&'static str, &str)]) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let request = with(tokio_stream::iter([()]), headers);
    let path: PathAndQuery = path.parse().unwrap();
    let mut answers = client.streaming(request, path, ProstCodec::<(), ()>::default()).await?.into_inner();
    let first = tokio::time::timeout(Duration::from_millis(300), answers.message()).await;
    // Who waits for an answer was let in.
    first.unwrap_or(Ok(None)).map(|_| ())
}

/// Every call of every service, from the files.
fn calls() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/wharf/v1");
    let mut calls = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let mut service = String::new();
        for line in fs::read_to_string(file.unwrap().path()).unwrap().lines() {
            let mut words = line.split([' ', '(', '{']).filter(|word| !word.is_empty());
            match (words.next(), words.next()) {
                (Some("service"), Some(name)) => service = name.to_owned(),
                (Some("rpc"), Some(name)) => calls.push((service.clone(), name.to_owned())),
                _ => {}
            }
        }
    }
    calls.sort();
    calls
}

fn word(result: &Result<(), Status>) -> &'static str {
    match result.as_ref().map_err(Status::code) {
        Err(Code::Unauthenticated) => "who?",
        Err(Code::PermissionDenied) => "no",
        Ok(()) | Err(_) => "yes",
    }
}

/// What an empty message to each call meets, by who sends it: `who?` and `no` are refusals, `yes` is whatever comes after
/// that. `UPDATE_GOLDENS=1` writes it anew; read it before it is committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_is_closed_to_whoever_has_no_right_to_it() {
    let founded = Founded::start().await;
    let admin = founded.token("admin", AccessRole::Admin, &[], None).await;
    let deployer = founded.token("deployer", AccessRole::Deployer, &[], None).await;
    let scoped = founded.token("scoped", AccessRole::Admin, &["shop"], None).await;
    let viewer = founded.token("viewer", AccessRole::Viewer, &[], None).await;
    let users = founded.over_tls(&admin).await;
    let (server, agent) = (founded.as_host(HostRole::Server).await, founded.as_host(HostRole::Agent).await);
    let tokens = [&viewer, &deployer, &scoped].map(bearer);
    let mut table = format!(
        "{:28}{:8}{:8}{:8}{:8}{:10}{}\n",
        "call", "nobody", "agent", "server", "viewer", "deployer", "shop's admin"
    );
    for (service, call) in calls() {
        let path = format!("/wharf.v1.{service}/{call}");
        let mut row = vec![ask(&users, &path, &[]).await, ask(&agent, &path, &[]).await];
        // A server that speaks for nobody; what it says to its peers is not looked at here.
        row.push(ask(&server, &path, &[]).await);
        for token in &tokens {
            row.push(ask(&users, &path, &[("authorization", token)]).await);
        }
        let words: Vec<&str> = row.iter().map(word).collect();
        let [nobody, agent, server, viewer, deployer, scoped] = words[..] else { unreachable!() };
        let path = format!("{service}/{call}");
        writeln!(table, "{path:28}{nobody:8}{agent:8}{server:8}{viewer:8}{deployer:10}{scoped}").unwrap();
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/access.txt");
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        fs::write(path, &table).unwrap();
    }
    assert_eq!(table, fs::read_to_string(path).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_waited_for_that_a_stranger_has_no_right_to_say() {
    let founded = Founded::start().await;
    let viewer = founded.token("viewer", AccessRole::Viewer, &[], None).await;
    let stranger = founded.over_tls(&viewer).await;
    for path in ["/wharf.v1.Peers/GetSnapshotProgress", "/wharf.v1.Peers/Exchange", "/wharf.v1.Join/Announce"]
    {
        let mut client = tonic::client::Grpc::new(stranger.clone());
        client.ready().await.unwrap();
        // A message that never comes.
        let request = Request::new(tokio_stream::pending::<()>());
        let codec = ProstCodec::<(), ()>::default();
        let answered = client.streaming(request, PathAndQuery::from_static(path), codec);
        let refused = in_time("a refusal", answered).await.map(drop).unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{path}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_hands_on_but_servers_and_nobody_lends_rights() {
    let founded = Founded::start().await;
    let viewer = founded.token("viewer", AccessRole::Viewer, &[], None).await;
    let (users, shown) = (founded.over_tls(&viewer).await, bearer(&viewer));
    let status = |channel: &Channel, headers: &[(&'static str, &str)]| {
        let request = with(v1::DeleteRequest { services: vec![crate::fixture::key("web")] }, headers);
        let mut client = ControlClient::new(channel.clone());
        async move { client.delete(request).await.map(|_| ()).unwrap_err() }
    };
    let forged = [("wharf-handed-on", "1"), ("wharf-handed-on-from", "10.0.0.1:1")];
    assert_eq!(status(&users, &forged).await.code(), Code::Unauthenticated);
    let with_token = [&forged[..], &[("authorization", &shown)]].concat();
    assert_eq!(status(&users, &with_token).await.code(), Code::PermissionDenied);
    let by_token = [
        ("wharf-handed-on-by-token", "1"),
        ("wharf-handed-on-from", "10.0.0.1:1"),
        ("authorization", &shown),
    ];
    assert_eq!(status(&users, &by_token).await.code(), Code::PermissionDenied);
    let agent = founded.as_host(HostRole::Agent).await;
    assert_eq!(status(&agent, &with_token).await.code(), Code::Unauthenticated);

    // A server is believed where it came from, and not what it may: of what was handed on by token, the token counts.
    eventually("the server is a member", || async {
        let seen = founded.root().await.get_cluster(v1::GetClusterRequest {}).await.unwrap().into_inner();
        if seen.members.is_empty() { Err(()) } else { Ok(()) }
    })
    .await;
    let server = founded.as_host(HostRole::Server).await;
    assert_eq!(status(&server, &by_token).await.code(), Code::PermissionDenied);
    let lines = founded.audit();
    let froms: Vec<&str> = lines.iter().filter_map(|line| line["from"].as_str()).collect();
    assert_eq!(froms.last(), Some(&"10.0.0.1:1"), "{lines:#?}");
    assert_eq!(froms.iter().filter(|from| **from == "10.0.0.1:1").count(), 1, "{lines:#?}");
    assert_eq!(status(&server, &forged).await.code(), Code::NotFound, "root on the host of a server");
    // Both at once is the lesser.
    let both = [&by_token[..], &forged[..1]].concat();
    assert_eq!(status(&server, &both).await.code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_holds_until_it_expires_or_is_withdrawn_and_only_in_its_cluster() {
    let founded = Founded::start().await;
    let token = founded.token("ci", AccessRole::Viewer, &[], None).await;
    let brief = founded.token("brief", AccessRole::Viewer, &[], Some(1)).await;
    let users = founded.over_tls(&token).await;
    let status = |headers: Vec<(&'static str, String)>| {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let request = with(everything(), &headers);
        let mut client = ControlClient::new(users.clone());
        async move { in_time("an answer", client.status(request)).await.map(|_| ()) }
    };
    let refused = |shown: String| {
        let answer = status(vec![("authorization", shown)]);
        async move {
            let status = answer.await.unwrap_err();
            assert_eq!(status.code(), Code::Unauthenticated);
            status.message().to_owned()
        }
    };
    status(vec![("authorization", bearer(&token))]).await.unwrap();
    assert!(refused(bearer(&brief)).await.starts_with("the access token brief expired"));
    assert!(refused("Basic cm9vdDp0b29y".to_owned()).await.contains("Bearer TOKEN"));
    assert!(refused("Bearer x".to_owned()).await.contains("this is no access token"));
    let shown = bearer(&token);
    assert!(refused(shown[..shown.len() - 1].to_owned()).await.contains("mistyped"));
    let mut other = token.clone();
    other.token.cluster = ClusterId(5);
    assert!(refused(bearer(&other)).await.contains("the token is for cluster"));
    let (_, stranger) = {
        let wanted = trust::token::access::Wanted {
            name: "ci".parse().unwrap(),
            grant: model::Grant { role: model::AccessRole::Admin, scope: model::Scope::Everywhere },
            created_at: now(),
            expires_at: None,
            addresses: Vec::new(),
        };
        let (text, record) =
            trust::token::access::make(token.token.cluster, token.token.pin, wanted).unwrap();
        (record, text)
    };
    assert!(refused(bearer(&stranger)).await.contains("does not know this access token"));
    let request = v1::RevokeAccessTokenRequest { token: "ci".to_owned() };
    founded.root().await.revoke_access_token(request).await.unwrap();
    assert!(refused(bearer(&token)).await.contains("does not know this access token: it was withdrawn"));
    let missing = v1::RevokeAccessTokenRequest { token: bearer(&token) };
    let said = founded.root().await.revoke_access_token(missing).await.unwrap_err();
    assert!(!said.message().contains("wharf_access"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_on_ends_with_its_token() {
    let founded = Founded::start().await;
    let token = founded.token("ci", AccessRole::Viewer, &[], None).await;
    let brief = founded.token("brief", AccessRole::Viewer, &[], Some(1_500)).await;
    let watch = async |token: &AccessTokenText| {
        let mut users = ControlClient::new(founded.over_tls(token).await);
        let request = with(everything(), &[("authorization", &bearer(token))]);
        let mut watch = users.watch(request).await.unwrap().into_inner();
        watch.message().await.unwrap().unwrap();
        watch
    };
    let ends = async |mut watch: tonic::Streaming<v1::StatusResponse>| {
        loop {
            match in_time("the watch ends", watch.message()).await {
                Ok(Some(_)) => {}
                ended => return ended.unwrap_err(),
            }
        }
    };
    let (brief, long) = (watch(&brief).await, watch(&token).await);
    let ended = ends(brief).await;
    assert_eq!(
        (ended.code(), ended.message()),
        (Code::Unauthenticated, "the access token brief has expired meanwhile")
    );
    let request = v1::RevokeAccessTokenRequest { token: "ci".to_owned() };
    founded.root().await.revoke_access_token(request).await.unwrap();
    let ended = ends(long).await;
    assert_eq!(
        (ended.code(), ended.message()),
        (Code::Unauthenticated, "the access token ci was withdrawn meanwhile")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_narrowed_to_what_a_token_may_read_and_say_so() {
    let founded = Founded::start().await;
    let scoped = founded.token("scoped", AccessRole::Viewer, &["shop", "web"], None).await;
    let everywhere = founded.token("everywhere", AccessRole::Viewer, &[], None).await;
    let founded = &founded;
    let ask = |token: AccessTokenText, request: v1::StatusRequest| async move {
        let (users, shown) = (founded.over_tls(&token).await, bearer(&token));
        let request = with(request, &[("authorization", &shown)]);
        ControlClient::new(users).status(request).await.map(tonic::Response::into_inner)
    };
    assert_eq!(ask(scoped.clone(), everything()).await.unwrap().narrowed_to, ["shop", "web"]);
    assert!(ask(everywhere, everything()).await.unwrap().narrowed_to.is_empty());
    let named = |namespace: &str| v1::StatusRequest {
        services: Some(v1::status_request::Services::Named(v1::status_request::ServiceKeys {
            keys: ["shop", namespace]
                .map(|namespace| v1::ServiceKey { namespace: namespace.to_owned(), name: "x".to_owned() })
                .to_vec(),
        })),
        ..everything()
    };
    ask(scoped.clone(), named("web")).await.unwrap();
    let refused = ask(scoped, named("other")).await.unwrap_err();
    assert!(refused.message().contains("you may not read services in namespace other"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_tells_what_was_written_and_refused_and_no_secret() {
    let founded = Founded::start().await;
    let deployer = founded.token("ci", AccessRole::Deployer, &["default"], None).await;
    let _agent = crate::agent::Agent::start(&founded.server, 1).await;
    let (users, shown) = (founded.over_tls(&deployer).await, bearer(&deployer));
    let mut control = ControlClient::new(users);
    let secret = "hunter2";
    let mut apply = web(&format!("replicas: 1\nenv: {{PASSWORD: {secret}}}"));
    let applied = eventually("it is applied", || {
        let (mut control, request) = (control.clone(), with(apply.clone(), &[("authorization", &shown)]));
        async move { control.apply(request).await }
    });
    applied.await;
    apply.services[0].service.as_mut().unwrap().namespace = "shop".to_owned();
    control.apply(with(apply.clone(), &[("authorization", &shown)])).await.unwrap_err();
    apply.dry_run = true;
    control.apply(with(apply, &[("authorization", &shown)])).await.unwrap_err();
    let start = v1::ExecStart {
        service: "web".to_owned(),
        command: vec!["psql".to_owned(), format!("password={secret}")],
        ..v1::ExecStart::default()
    };
    let first = v1::ExecInput { input: Some(v1::exec_input::Input::Start(start)) };
    let request = with(tokio_stream::iter([first]), &[("authorization", &shown)]);
    control.exec(request).await.unwrap_err();

    let text = fs::read_to_string(founded.server.home.data.join("audit.log")).unwrap();
    assert!(!text.contains(secret) && !text.contains("wharf_access_"), "{text}");
    let lines = founded.audit();
    let brief: Vec<String> = lines
        .iter()
        .map(|line| {
            let who = line["who"]["token"].as_str().unwrap_or("root");
            format!("{who} {} {} {}", line["verb"], line["about"], line["outcome"]).replace('"', "")
        })
        .filter(|line| !line.contains("failed") || line.contains("exec"))
        .collect();
    assert_eq!(
        brief,
        [
            "root create access token [ci,deployer,in default] done",
            "ci apply [default/web] done",
            "ci apply [shop/web] refused",
            "ci exec [default/web,psql] failed",
        ],
        "{text}"
    );
    let done = lines.iter().find(|line| line["verb"] == "apply" && line["outcome"] == "done").unwrap();
    assert_eq!(done["became"][0]["generation"], 1, "{done}");
    assert!(done["from"].as_str().unwrap().starts_with("127.0.0.1:"), "{done}");
    let refused = lines.iter().find(|line| line["outcome"] == "refused").unwrap();
    assert!(refused["reason"].as_str().unwrap().contains("you may not change services in namespace shop"));
}
