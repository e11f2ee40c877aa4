//! What an apply costs, over the socket and onto the disk: applies per second and how long each takes, with one user and
//! with 64 at once; and a read, which touches no disk. Beside etcd, and with real processes: `tests/bench`, mode `writes`.
//!
//!     cargo run --release -p server --example apply_bench -- [folder]
//!
//! The folder decides which disk is measured; without one it is the current directory's.

use std::{
    error::Error,
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hyper_util::rt::TokioIo;
use proto::{
    session::{AgentSays, Hello},
    v1::{self, agents_client::AgentsClient, control_client::ControlClient},
};
use server::keys::Unlock;
use tokio::{net::UnixStream, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};

const SPAN: Duration = Duration::from_secs(5);
const USERS: [usize; 2] = [1, 64];

type Failure = Box<dyn Error + Send + Sync>;
type Control = ControlClient<Channel>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let parent = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let folder = tempfile::tempdir_in(parent)?;
    let socket = folder.path().join("wharf.sock");
    let config = server::Config {
        data_dir: folder.path().join("data"),
        socket: socket.clone(),
        unlock: Unlock::Beside,
        audit_log: None,
        remote: None,
    };
    let server = tokio::spawn(server::run(config, std::future::pending()));
    let _session = open_session(&connect(&socket).await?).await?;

    sync_alone(folder.path())?;
    let control = ControlClient::new(connect(&socket).await?);
    report("status, users: 1", measure(1, |_| control.clone(), look).await?);
    apply(&mut control.clone(), 0, 0).await?;
    // One write each: nothing follows from what changes nothing.
    report("apply the same, users: 1", measure(1, |_| control.clone(), apply_the_same).await?);
    for users in USERS {
        let mut controls = Vec::new();
        for user in 0..users {
            let mut control = ControlClient::new(connect(&socket).await?);
            // Once before it counts: from then on each changes what is there.
            apply(&mut control, user, 0).await?;
            controls.push(control);
        }
        report(
            &format!("apply a change, users: {users}"),
            measure(users, |user| controls[user].clone(), apply_one).await?,
        );
    }
    server.abort();
    Ok(())
}

/// What no write can be faster than here.
fn sync_alone(folder: &Path) -> Result<(), Failure> {
    let file = File::create(folder.join("sync"))?;
    file.write_all_at(&vec![0; 1 << 20], 0)?;
    file.sync_all()?;
    let mut spans = Vec::new();
    for number in 0..500 {
        let began = Instant::now();
        file.write_all_at(&[1; 1024], number % 1024 * 1024)?;
        file.sync_data()?;
        spans.push(began.elapsed());
    }
    report("pwrite and fdatasync alone", Measured { spans, took: None });
    Ok(())
}

struct Measured {
    spans: Vec<Duration>,
    /// None where the rate says nothing.
    took: Option<Duration>,
}

/// So many users, each with one request at a time.
async fn measure<Asked: Future<Output = Result<(), Failure>> + Send + 'static>(
    users: usize,
    control: impl Fn(usize) -> Control,
    ask: impl Fn(Control, usize, u64) -> Asked + Copy + Send + 'static,
) -> Result<Measured, Failure> {
    let began = Instant::now();
    let asking = (0..users).map(|user| {
        let control = control(user);
        tokio::spawn(async move {
            let mut spans = Vec::new();
            while began.elapsed() < SPAN {
                let asked = Instant::now();
                ask(control.clone(), user, spans.len() as u64 + 1).await?;
                spans.push(asked.elapsed());
            }
            Ok::<_, Failure>(spans)
        })
    });
    let mut spans = Vec::new();
    for user in asking.collect::<Vec<_>>() {
        spans.extend(user.await??);
    }
    Ok(Measured { spans, took: Some(began.elapsed()) })
}

fn report(what: &str, Measured { mut spans, took }: Measured) {
    spans.sort_unstable();
    let at = |permille: usize| spans[(spans.len() - 1) * permille / 1000].as_secs_f64() * 1e3;
    let rate = took.map(|took| format!("{:8.0}/s  ", spans.len() as f64 / took.as_secs_f64()));
    println!("{what:28} {:12}p50 {:7.3} ms   p99 {:7.3} ms", rate.unwrap_or_default(), at(500), at(990));
}

async fn look(mut control: Control, _: usize, _: u64) -> Result<(), Failure> {
    control.status(v1::StatusRequest::default()).await?;
    Ok(())
}

async fn apply_one(mut control: Control, user: usize, number: u64) -> Result<(), Failure> {
    apply(&mut control, user, number).await
}

async fn apply_the_same(mut control: Control, user: usize, _: u64) -> Result<(), Failure> {
    apply(&mut control, user, 0).await
}

async fn apply(control: &mut Control, user: usize, number: u64) -> Result<(), Failure> {
    let text = format!(
        "apiVersion: wharf/v1\nkind: Service\nmetadata:\n  name: s{user}\n  annotations: {{ change: \"{number}\" }}\n\
         spec:\n  image: hello\n  replicas: 0\n"
    );
    let manifest = manifest::parse("bench", &text).map_err(|errors| errors.to_string())?.remove(0);
    let declared = v1::ServiceDeclaration {
        service: Some((&manifest.key).into()),
        annotations: manifest.annotations.into_iter().collect(),
        spec: Some((&manifest.spec).into()),
        ..v1::ServiceDeclaration::default()
    };
    control.apply(v1::ApplyRequest { services: vec![declared], dry_run: false, brief: true }).await?;
    Ok(())
}

/// A node that has the image; the session stands as long as what is returned is kept.
async fn open_session(channel: &Channel) -> Result<impl Sized + use<>, Failure> {
    let node = model::NodeInfo {
        id: model::NodeId(1),
        name: model::Name::new("bench")?,
        labels: Default::default(),
        cpu: model::MilliCpu(1_000),
        memory: model::Bytes(1 << 30),
        address: std::net::Ipv4Addr::LOCALHOST,
        subnet: None,
        agent_version: "bench".to_owned(),
    };
    let images = vec![("hello:latest".to_owned(), format!("sha256:{:064x}", 1).parse()?)];
    let hello = Hello {
        protocol_version: proto::PROTOCOL_VERSION,
        node,
        observed: Vec::new(),
        images,
        level: model::Level::FIRST,
        said_at: None,
    };
    let (says, messages) = mpsc::channel(1);
    says.send((&AgentSays::Hello(hello)).into()).await?;
    let mut inbound =
        AgentsClient::new(channel.clone()).session(ReceiverStream::new(messages)).await?.into_inner();
    inbound.message().await?;
    tokio::spawn(async move {
        while says.send((&AgentSays::Heartbeat { number: 0, usage: None }).into()).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    Ok(inbound)
}

/// Waits until the server listens.
async fn connect(socket: &Path) -> Result<Channel, Failure> {
    let path = socket.to_owned();
    let connect = move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    };
    let began = Instant::now();
    loop {
        let endpoint = Endpoint::from_static("http://wharf.bench");
        match endpoint.connect_with_connector(tower::service_fn(connect.clone())).await {
            Ok(channel) => return Ok(channel),
            Err(error) if began.elapsed() > SPAN => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}
