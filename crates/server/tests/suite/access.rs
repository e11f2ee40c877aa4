//! Who may ask what over TLS, and what is written down of it. Every call of every service is walked over.

use std::{fmt::Write as _, fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use dial::{Patience, Way, dial};
use model::{ClusterId, HostRole, Millis, NodeId, Timestamp};
use proto::v1::{
    self, AccessRole, access_token::Namespaces, cluster_client::ClusterClient, control_client::ControlClient,
};
use rustls::time_provider::DefaultTimeProvider;
use serde_json::Value as Json;
use server::{
    founding,
    remote::{Beginning, RemoteConfig},
};
use tokio::{io::AsyncReadExt as _, net::TcpStream};
use tonic::{
    Code, Request, Status, codegen::http::uri::PathAndQuery, metadata::MetadataMap, transport::Channel,
};
use tonic_prost::ProstCodec;
use trust::{
    authority::Authority,
    folder::IdentityFolder,
    identity::{Identity, any_server_name},
    tls::{Believe, Present, client_config},
    token::access::AccessTokenText,
    validity,
};

use crate::fixture::{Home, Server, channel, eventually, everything, in_time, web};

/// A founded cluster of one server, which listens for everybody.
struct Founded {
    server: Server,
    identity: Identity,
    address: SocketAddr,
    folder: std::path::PathBuf,
}

impl Founded {
    async fn start() -> Founded {
        let home = Home::new();
        let folder = home.data.join("trust");
        let identity = founding::found(&home.data, &folder, now()).unwrap();
        // Free when it was asked for; between that and its use there is only this test.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let server = Server::start_in(home.remote(RemoteConfig {
            name: "one".parse().unwrap(),
            listen: address,
            advertise: address.to_string(),
            identity: folder.clone(),
            certificate_lifetime: validity::NODE_LIFETIME,
            beginning: Beginning::Founds,
            contacts: Default::default(),
        }))
        .await;
        Founded { server, identity, address, folder }
    }

    async fn root(&self) -> ClusterClient<Channel> {
        ClusterClient::new(channel(&self.server.home.socket).await.unwrap())
    }

    /// A token that root made.
    async fn token(
        &self,
        name: &str,
        role: AccessRole,
        namespaces: &[&str],
        expires: Option<u64>,
    ) -> AccessTokenText {
        let namespaces = namespaces.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let request = v1::CreateAccessTokenRequest {
            name: name.to_owned(),
            role: role.into(),
            namespaces: (!namespaces.is_empty()).then_some(Namespaces { names: namespaces }),
            expires_after_ms: expires,
            addresses: Vec::new(),
        };
        let made = eventually("a token is made", || async {
            self.root().await.create_access_token(request.clone()).await
        });
        AccessTokenText::parse(&made.await.into_inner().token).unwrap()
    }

    /// Over TLS without a certificate, as people come.
    async fn over_tls(&self, token: &AccessTokenText) -> Channel {
        let believe = Believe::Pin(token.token.cluster, token.token.pin);
        let config = client_config(Present::Nothing, believe, Arc::new(DefaultTimeProvider)).unwrap();
        self.dial(config).await
    }

    /// With the certificate of a host of this cluster.
    async fn as_host(&self, role: HostRole) -> Channel {
        let stored = IdentityFolder::open(&self.folder).unwrap().load().unwrap().unwrap();
        let credentials = match role {
            HostRole::Server => stored.credentials,
            HostRole::Agent => {
                let part = self.root().await.backup(v1::BackupRequest {}).await;
                self.agent_credentials(&stored.trust, part.unwrap().into_inner()).await
            }
        };
        let believe = Believe::Trust(&stored.trust);
        let config =
            client_config(Present::Certificate(&credentials), believe, Arc::new(DefaultTimeProvider));
        self.dial(config.unwrap()).await
    }

    /// A backup has everything in it, the authority too: nobody but an admin may have one.
    async fn agent_credentials(
        &self,
        _: &trust::bundle::Trust,
        mut parts: tonic::Streaming<v1::BackupPart>,
    ) -> trust::tls::Credentials {
        let mut data = Vec::new();
        while let Some(part) = parts.message().await.unwrap() {
            if let Some(v1::backup_part::Part::Data(bytes)) = part.part {
                data.extend_from_slice(&bytes);
            }
        }
        let state = proto::codec::decode_snapshot(&data).unwrap();
        let authority = Authority::decode(&state.trust().unwrap().authority.0).unwrap();
        let folder = self.folder.with_extension("agent");
        let home = IdentityFolder::open(&folder).unwrap();
        home.believe(&trust::bundle::Trust::new(authority.certificate().clone())).unwrap();
        let identity = Identity { role: HostRole::Agent, node: NodeId(5), ..self.identity };
        let request = home.next_key().unwrap().request().unwrap();
        home.install(authority.sign(&request, identity, now(), Millis(3_600_000)).unwrap()).unwrap();
        home.load().unwrap().unwrap().credentials
    }

    async fn dial(&self, config: rustls::ClientConfig) -> Channel {
        let name = any_server_name(self.identity.cluster);
        let (address, config) = (self.address.to_string(), Arc::new(config));
        let patience = Patience { connect: Duration::from_secs(5), silence: Duration::from_secs(5) };
        dial(Way::Tls { address, name, config }, patience).await.unwrap()
    }

    fn audit(&self) -> Vec<Json> {
        let text = fs::read_to_string(self.server.home.data.join("audit.log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn now() -> Timestamp {
    Timestamp(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64)
}

fn bearer(token: &AccessTokenText) -> String {
    format!("Bearer {}", *token.bearer())
}

fn with<T>(message: T, headers: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in headers {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    request
}

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

/// Heads that are too large, and silence before and after the handshake, cost the server a bounded time and nobody else
/// anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_hold_up_nobody() {
    let founded = Founded::start().await;
    let token = founded.token("ci", AccessRole::Viewer, &[], None).await;
    let (users, shown) = (founded.over_tls(&token).await, bearer(&token));
    let large = "x".repeat(1 << 20);
    let mut metadata = MetadataMap::new();
    metadata.insert("authorization", format!("Bearer {large}").parse().unwrap());
    let mut request = Request::new(everything());
    *request.metadata_mut() = metadata;
    let refused = ControlClient::new(users).status(request).await.unwrap_err();
    assert_ne!(refused.code(), Code::Ok, "{refused:?}");
    // More than may shake hands at once, all silent.
    let mut silent = Vec::new();
    for _ in 0..130 {
        silent.push(TcpStream::connect(founded.address).await.unwrap());
    }
    let answer = async {
        let users = founded.over_tls(&token).await;
        ControlClient::new(users).status(with(everything(), &[("authorization", &shown)])).await
    };
    // They give way long before their time is over.
    in_time("a user is let in", answer).await.unwrap();
    let mut byte = [0];
    let closed = in_time("a silent connection is closed", silent[0].read(&mut byte)).await;
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
}
