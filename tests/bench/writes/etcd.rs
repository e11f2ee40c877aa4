//! etcd as Debian has it, and the few calls of its API that are needed.
//!
//! The messages are written by hand: the numbers are of etcd's public `rpc.proto` and `kv.proto` (API version 3).

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use dial::{Way, dial};
use prost::Message;
use tests::wait_for;
use tonic::{client::Grpc, transport::Channel};

use super::load::{Known, PATIENCE, call};

const PROGRAM: &str = "/usr/bin/etcd";
const SOON: Duration = Duration::from_secs(60);

pub(super) fn version() -> Result<String, String> {
    let output = Command::new(PROGRAM).arg("--version").output();
    let output = output.map_err(|error| format!("{PROGRAM}: {error}; apt-get install etcd-server"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().next().unwrap_or_default().replace("etcd Version:", "etcd"))
}

/// A cluster of it, each member a process with its own folder.
#[derive(Debug)]
pub(super) struct Etcd {
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    process: Child,
    socket: PathBuf,
}

impl Etcd {
    pub(super) fn start(folder: &Path, members: usize) -> Etcd {
        let peers: Vec<String> = (0..members).map(|_| free_address()).collect();
        let named: Vec<String> =
            peers.iter().enumerate().map(|(number, at)| format!("etcd{number}=https://{at}")).collect();
        let cluster = named.join(",");
        let start = |number: usize| {
            Member::start(&folder.join(format!("etcd{members}")), number, &peers[number], &cluster)
        };
        let etcd = Etcd { members: (0..members).map(start).collect() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        wait_for("etcd to serve", SOON, || runtime.block_on(etcd.leaders_socket()));
        etcd
    }

    pub(super) fn pids(&self) -> Vec<i32> {
        self.members.iter().map(|member| member.process.id() as i32).collect()
    }

    pub(super) async fn leaders_socket(&self) -> Result<PathBuf, String> {
        for member in &self.members {
            let channel =
                dial(Way::Socket(member.socket.clone()), PATIENCE).await.map_err(|e| e.to_string())?;
            let status: StatusResponse =
                call(&mut Grpc::new(channel), "/etcdserverpb.Maintenance/Status", StatusRequest {}).await?;
            if status.header.is_some_and(|header| header.member_id == status.leader) {
                return Ok(member.socket.clone());
            }
        }
        Err("no member of etcd leads".to_owned())
    }
}

impl Member {
    /// With its defaults, but for addresses: clients over a Unix socket, the other members over TLS, as of wharf.
    fn start(folder: &Path, number: usize, peer: &str, cluster: &str) -> Member {
        let (name, folder) = (format!("etcd{number}"), folder.join(number.to_string()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let log = File::create(folder.join("log")).expect("a log file");
        // etcd takes a host and a port for the name of a socket in its working directory.
        let socket = "localhost:2379";
        let process = Command::new(PROGRAM)
            .current_dir(&folder)
            .args(["--name", &name, "--data-dir", "data", "--logger", "zap"])
            .arg(format!("--listen-client-urls=unix://{socket}"))
            .arg(format!("--advertise-client-urls=unix://{socket}"))
            .arg(format!("--listen-peer-urls=https://{peer}"))
            .arg(format!("--initial-advertise-peer-urls=https://{peer}"))
            .args(["--peer-auto-tls", "--initial-cluster", cluster, "--initial-cluster-state", "new"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("etcd can be started");
        Member { process, socket: folder.join(socket) }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Nothing of it is wanted any more.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Free when it is chosen.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").to_string()
}

#[derive(Clone, Debug)]
pub(super) struct EtcdClient {
    grpc: Grpc<Channel>,
    key: Vec<u8>,
}

impl EtcdClient {
    pub(super) fn new(channel: Channel, number: usize) -> EtcdClient {
        EtcdClient { grpc: Grpc::new(channel), key: format!("bench/client-{number}").into_bytes() }
    }

    pub(super) async fn put(&mut self, value: &str) -> Result<(), String> {
        let request = PutRequest { key: self.key.clone(), value: value.as_bytes().to_vec() };
        let _: PutResponse = call(&mut self.grpc, "/etcdserverpb.KV/Put", request).await?;
        Ok(())
    }

    pub(super) async fn read(&mut self) -> Result<Known, String> {
        let request = RangeRequest { key: self.key.clone() };
        let found: RangeResponse = call(&mut self.grpc, "/etcdserverpb.KV/Range", request).await?;
        let found = found.kvs.into_iter().next().unwrap_or_default();
        Ok(Known { value: String::from_utf8_lossy(&found.value).into_owned(), writes: found.version as u64 })
    }
}

#[derive(Clone, PartialEq, Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

#[derive(Clone, PartialEq, Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct PutResponse {}

#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    /// How often the key was written since it was made.
    #[prost(int64, tag = "4")]
    version: i64,
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
}
