//! One server and a thousand agents, which join with one token and open sessions over TLS, from one process.
//!
//! The server is the real program with a data folder on the disk. The agents are simulated ([`crate::agent`]): they say
//! what real ones say, as often, and run nothing. First all come, then they get replicas, then the server is ended by
//! kill -9 and started again, and all come back as real agents do.
//!
//! Start reading at [`run`].

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use dial::{Patience, Way, dial};
use proto::v1::{self, control_client::ControlClient, join_client::JoinClient};
use rustls::time_provider::DefaultTimeProvider;
use tests::Several;
use tokio::{sync::Semaphore, task::JoinSet, time::sleep};
use tonic::transport::Channel;
use trust::{
    bundle::Trust,
    certificate::NodeCertificate,
    identity::any_server_name,
    key::NodeKey,
    tls::{Believe, Credentials, Present, client_config},
    token::join::JoinTokenText,
};

use crate::{
    agent::Agent,
    declared,
    memory::{self, Measure},
};

const SERVER: &str = "server1";
const REPLICAS_EACH: usize = 20;
/// As many as a service may have.
const REPLICAS_OF_A_SERVICE: usize = 10_000;
/// So many join at once.
const JOINING: usize = 32;
const DEADLINE: Duration = Duration::from_secs(300);
/// Before the idle server is looked at, and for how long it is.
const SETTLE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// As of a real agent.
const PATIENCE: Patience = Patience { connect: Duration::from_secs(5), silence: Duration::from_secs(5) };
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);

pub(crate) fn run(agents: usize) -> Result<(), String> {
    let folder = tempfile::Builder::new().prefix("wharf-bench-").tempdir().expect("a temporary folder");
    let mut cluster = Several::servers_in(folder.path(), 1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure(&mut cluster, agents))
}

async fn measure(cluster: &mut Several, agents: usize) -> Result<(), String> {
    show(cluster, "an idle server", None);

    let token = cluster.token("agent", &["--uses", &agents.to_string()]);
    let began = Instant::now();
    let ways = join(&token, &cluster.address(SERVER), agents).await?;
    println!("{agents} agents joined with one token in {:.1?}", began.elapsed());

    let fleet = Fleet::default();
    let began = Instant::now();
    for (node, way) in ways {
        tokio::spawn(fleet.clone().attend(node, way));
    }
    fleet.wait_for_all(agents).await?;
    show(cluster, &format!("{agents} sessions open"), Some(began.elapsed()));

    let (wanted, began) = (agents * REPLICAS_EACH, Instant::now());
    run_replicas(&cluster.socket(SERVER), wanted).await?;
    show(cluster, &format!("{wanted} replicas ready"), Some(began.elapsed()));

    sleep(SETTLE).await;
    let before = processor_time(cluster.pid(SERVER));
    sleep(IDLE).await;
    let used = processor_time(cluster.pid(SERVER)) - before;
    let percent = used.as_secs_f64() / IDLE.as_secs_f64() * 100.0;
    show(cluster, &format!("settled, with heartbeats: {percent:.1}% of one processor"), None);

    cluster.kill(SERVER);
    fleet.wait_for_all(0).await?;
    let began = Instant::now();
    cluster.start(SERVER);
    fleet.wait_for_all(agents).await?;
    let took = began.elapsed();
    let used = processor_time(cluster.pid(SERVER)).as_secs_f64();
    show(
        cluster,
        &format!("after kill -9 and a start: all sessions open again ({used:.1} s of processor time)"),
        Some(took),
    );
    sleep(SETTLE).await;
    show(cluster, "settled again", None);
    Ok(())
}

/// A line about the server as it is now.
fn show(cluster: &Several, what: &str, took: Option<Duration>) {
    let usage = memory::of(cluster.pid(SERVER));
    let mib = |measure| usage.bytes(measure) as f64 / f64::from(1 << 20);
    let took = took.map(|took| format!(" after {took:.1?}")).unwrap_or_default();
    let (resident, proportional) = (mib(Measure::Resident), mib(Measure::Proportional));
    println!("{what}{took}; server resident {resident:.1} MiB, proportional {proportional:.1} MiB");
}

/// User and system time of a process, as the kernel counts it.
fn processor_time(pid: i32) -> Duration {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    // What follows the name, which may contain anything. Source: proc_pid_stat(5), fields 14 and 15.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second())
}

/// The nodes and their ways to the server, with certificates of their own.
async fn join(token: &str, address: &str, agents: usize) -> Result<Vec<(u64, Way)>, String> {
    let token = Arc::new(JoinTokenText::parse(token).map_err(|error| error.to_string())?);
    let turns = Arc::new(Semaphore::new(JOINING));
    let mut tasks = JoinSet::new();
    for _ in 0..agents {
        let (token, address, turns) = (token.clone(), address.to_owned(), turns.clone());
        tasks.spawn(async move {
            let _turn = turns.acquire_owned().await;
            join_one(&token, address).await
        });
    }
    let mut ways = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        ways.push(joined.expect("a joining agent does not panic").map_err(|error| error.to_string())?);
    }
    Ok(ways)
}

async fn join_one(
    token: &JoinTokenText,
    address: String,
) -> Result<(u64, Way), Box<dyn std::error::Error + Send + Sync>> {
    let cluster = token.token.cluster;
    let clock = Arc::new(DefaultTimeProvider);
    let config = client_config(Present::Nothing, Believe::Pin(cluster, token.token.pin), clock.clone())?;
    let way = |config| Way::Tls {
        address: address.clone(),
        name: any_server_name(cluster),
        config: Arc::new(config),
    };
    let key = NodeKey::generate()?;
    let request = v1::JoinRequest {
        token: token.reveal().to_string(),
        role: v1::HostRole::Agent.into(),
        certificate_request: key.request()?.der().to_vec().into(),
        level: 0,
    };
    let answer = JoinClient::new(dial(way(config), PATIENCE).await?).join(request).await?.into_inner();
    let trust = Trust::from_pem(&answer.trust)?;
    let credentials = Credentials::new(key, NodeCertificate::from_pem(&answer.certificate)?)?;
    let config = client_config(Present::Certificate(&credentials), Believe::Trust(&trust), clock)?;
    Ok((answer.node, way(config)))
}

/// What all agents share.
#[derive(Clone, Debug, Default)]
struct Fleet {
    open: Arc<AtomicUsize>,
    /// Why the last session ended, or could not be opened.
    last_word: Arc<Mutex<String>>,
}

impl Fleet {
    /// Keeps a session open for ever, as a real agent does.
    async fn attend(self, node: u64, way: Way) {
        let mut agent = Agent::new(node);
        let mut pause = RETRY_FIRST;
        loop {
            let is_open = AtomicUsize::new(0);
            let ended = match dial(way.clone(), PATIENCE).await {
                Ok(channel) => {
                    let opened = || {
                        is_open.store(1, Ordering::Relaxed);
                        self.open.fetch_add(1, Ordering::Relaxed);
                    };
                    agent.attend(channel, opened).await.to_string()
                }
                Err(error) => error.to_string(),
            };
            if is_open.load(Ordering::Relaxed) == 1 {
                self.open.fetch_sub(1, Ordering::Relaxed);
                pause = RETRY_FIRST;
            }
            *self.last_word.lock().unwrap_or_else(PoisonError::into_inner) = ended;
            // Scattered over the upper half: of all, no two begin at the same moment.
            let part = (node % 1_000) as u32;
            sleep(pause / 2 + pause / 2 * part / 1_000).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    async fn wait_for_all(&self, wanted: usize) -> Result<(), String> {
        let until = Instant::now() + DEADLINE;
        loop {
            let open = self.open.load(Ordering::Relaxed);
            if open == wanted {
                return Ok(());
            }
            if Instant::now() > until {
                let last = self.last_word.lock().unwrap_or_else(PoisonError::into_inner);
                return Err(format!("{open} of {wanted} sessions are open; the last that ended: {last}"));
            }
            sleep(LOOK_AGAIN).await;
        }
    }
}

/// Returns when as many replicas are ready, of as many services as it takes.
async fn run_replicas(socket: &Path, wanted: usize) -> Result<(), String> {
    let channel: Channel = dial(Way::Socket(socket.to_owned()), PATIENCE).await.map_err(|e| e.to_string())?;
    let mut control = ControlClient::new(channel).max_decoding_message_size(usize::MAX);
    for number in 0..wanted.div_ceil(REPLICAS_OF_A_SERVICE) {
        let replicas = REPLICAS_OF_A_SERVICE.min(wanted - number * REPLICAS_OF_A_SERVICE);
        let services = vec![declared::service(&format!("fleet-{number}"), replicas)];
        let request = v1::ApplyRequest { services, brief: true, ..Default::default() };
        control.apply(request).await.map_err(|status| format!("apply: {status}"))?;
    }
    let until = Instant::now() + DEADLINE;
    loop {
        let all = v1::status_request::Services::All(v1::status_request::All {});
        let request = v1::StatusRequest { services: Some(all), ..Default::default() };
        let status = control.status(request).await.map_err(|status| format!("status: {status}"))?;
        let ready: u32 = status.into_inner().services.iter().map(|service| service.ready).sum();
        if ready as usize == wanted {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(format!("{ready} of {wanted} replicas are ready"));
        }
        sleep(Duration::from_secs(1)).await;
    }
}
