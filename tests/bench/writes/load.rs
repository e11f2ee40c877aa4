//! Clients in a closed loop: each has one write under way, and begins the next when that is acknowledged.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use dial::{Patience, Way, dial};
use prost::Message;
use tokio::task::JoinSet;
use tonic::{client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;

use super::{Subject, VALUE_BYTES, etcd::EtcdClient, wharf::WharfClient};

pub(super) const PATIENCE: Patience =
    Patience { connect: Duration::from_secs(10), silence: Duration::from_secs(10) };

/// One client, on a connection of its own, with one key of its own.
#[derive(Clone, Debug)]
pub(super) struct Client {
    way: ClientOf,
    /// How often the key was written when this client began.
    before: u64,
}

#[derive(Clone, Debug)]
enum ClientOf {
    Etcd(EtcdClient),
    Wharf(WharfClient),
}

/// What is known of a key: the value it has, and how often it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) value: String,
    pub(super) writes: u64,
}

/// What one round of a subject came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    pub(super) per_second: f64,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
}

impl Client {
    pub(super) async fn connect(
        subject: Subject,
        socket: &Path,
        count: usize,
    ) -> Result<Vec<Client>, String> {
        let mut clients = Vec::new();
        for number in 0..count {
            let channel = dial(Way::Socket(socket.to_owned()), PATIENCE).await.map_err(|e| e.to_string())?;
            clients.push(Client::new(subject, channel, number).await?);
        }
        Ok(clients)
    }

    async fn new(subject: Subject, channel: Channel, number: usize) -> Result<Client, String> {
        let way = match subject {
            Subject::Etcd => ClientOf::Etcd(EtcdClient::new(channel, number)),
            Subject::Wharf(change) => ClientOf::Wharf(WharfClient::new(channel, number, change)),
        };
        let mut client = Client { way, before: 0 };
        // The first write makes the key.
        client.write(&value(number, 0)).await?;
        client.before = client.read().await?.writes;
        Ok(client)
    }

    async fn write(&mut self, value: &str) -> Result<(), String> {
        match &mut self.way {
            ClientOf::Etcd(client) => client.put(value).await,
            ClientOf::Wharf(client) => client.apply(value).await,
        }
    }

    async fn read(&mut self) -> Result<Known, String> {
        match &mut self.way {
            ClientOf::Etcd(client) => client.read().await,
            ClientOf::Wharf(client) => client.read().await,
        }
    }
}

/// Of [`VALUE_BYTES`] bytes, and never the same twice.
fn value(client: usize, number: u64) -> String {
    format!("{client} {number} {}", "v".repeat(VALUE_BYTES))[..VALUE_BYTES].to_owned()
}

/// All clients write for as long as said. What was acknowledged is read back.
pub(super) async fn round(
    clients: Vec<Client>,
    warm_up: Duration,
    measured: Duration,
) -> Result<Round, String> {
    let count = clients.len();
    let from = Instant::now() + warm_up;
    let mut tasks = JoinSet::new();
    for (number, client) in clients.into_iter().enumerate() {
        tasks.spawn(run(client, number, from, from + measured));
    }
    let mut latencies = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        latencies.extend(ended.expect("a client does not panic")?);
    }
    if latencies.len() < count {
        return Err(format!("{count} clients made only {} writes in {measured:?}", latencies.len()));
    }
    latencies.sort_unstable();
    let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100];
    Ok(Round { per_second: latencies.len() as f64 / measured.as_secs_f64(), p50: at(50), p99: at(99) })
}

/// The latencies of the writes that were acknowledged within the measured time.
async fn run(
    mut client: Client,
    number: usize,
    from: Instant,
    until: Instant,
) -> Result<Vec<Duration>, String> {
    let mut latencies = Vec::new();
    let mut writes = 0;
    let mut ended = Instant::now();
    while ended < until {
        let began = ended;
        writes += 1;
        client.write(&value(number, writes)).await?;
        ended = Instant::now();
        if began >= from && ended < until {
            latencies.push(ended - began);
        }
    }
    let expected = Known { value: value(number, writes), writes: client.before + writes };
    let found = client.read().await?;
    if found != expected {
        return Err(format!("acknowledged writes are missing: expected {expected:?}, read {found:?}"));
    }
    Ok(latencies)
}

/// The same of both: one call, one message each way.
pub(super) async fn call<Q, A>(
    grpc: &mut Grpc<Channel>,
    method: &'static str,
    request: Q,
) -> Result<A, String>
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    grpc.ready().await.map_err(|error| error.to_string())?;
    let path = PathAndQuery::from_static(method);
    let answer = grpc.unary(tonic::Request::new(request), path, ProstCodec::default()).await;
    answer.map(tonic::Response::into_inner).map_err(|status| format!("{method}: {status}"))
}
