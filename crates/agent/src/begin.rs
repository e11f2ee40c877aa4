//! How an agent begins: what is remembered and what is there, before anything is done.

use std::sync::Arc;

use model::{Directory, NodeId, NodeInfo, Subnet, Timestamp};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    agent::Error,
    clock::{self, Clock},
    config::Config,
    core::{Found, FoundState, Record},
    host::{self, Host},
    identity::Identity,
    lease::LeaseFile,
    ledger::Ledger,
    remembered,
    session::Ways,
};

/// What is there before anything is done.
pub(crate) struct Begun {
    pub(crate) host: Host,
    pub(crate) ledger: Ledger,
    pub(crate) directory: Directory,
    pub(crate) lease: LeaseFile,
    /// Of the last lease that an earlier agent was given in this run of the host.
    pub(crate) leased_until: Option<Timestamp>,
    /// None if containers run here and nothing is remembered of them. They are let alone until a server says what belongs
    /// here: so a lost ledger stops nothing that should run.
    pub(crate) known: Option<(Vec<Record>, Found)>,
}

/// Who this node is.
pub(crate) struct Acquainted {
    pub(crate) identity: Identity,
    pub(crate) ways: Ways,
    pub(crate) node: NodeInfo,
}

/// All that is known before the host is touched. A node that has no subnet yet has nothing else either.
pub(crate) fn acquaint(config: &Config, seed: u64) -> Result<Acquainted, Error> {
    host::make_dir(&config.data_dir)?;
    let ways = Ways::open(config)?;
    let identity =
        Identity::open(config.identity_path(), || Ok::<_, Error>(ways.node().unwrap_or(NodeId(seed))))?;
    identity.agrees_with(ways.node())?;
    let node = host::node_info(config, identity.node(), config.subnet.or(identity.subnet()))?;
    Ok(Acquainted { identity, ways, node })
}

pub(crate) fn begin(config: Arc<Config>, subnet: Subnet, runtime: runtime::Runtime) -> Result<Begun, Error> {
    raise_descriptor_limit();
    let (ledger, records) = Ledger::recall(&config.ledger_path(), clock::wall())?;
    let latest = records.iter().flatten().map(Record::latest).max().filter(|at| *at > Timestamp(0));
    let path = config.clock_path();
    host::make_dir(&config.run_dir)?;
    let clock = Clock::open(&path, latest).map_err(|source| Error::Clock { path, source })?;
    let host = Host::open(Arc::clone(&config), subnet, runtime, clock)?;
    let path = config.lease_path();
    let (lease, leased_until) =
        LeaseFile::open(&path, clock).map_err(|source| Error::Lease { path, source })?;
    let directory = remembered::read(&config.directory_path());
    let found = host.find(records.as_deref().unwrap_or_default())?;
    let runs = |state: &FoundState| matches!(state, FoundState::Running { .. });
    let known = match records {
        None if found.containers.iter().any(|(_, state)| runs(state)) => None,
        records => Some((records.unwrap_or_default(), found)),
    };
    Ok(Begun { host, ledger, directory, lease, leased_until, known })
}

/// A replica costs a few descriptors, and the usual limit of 1,024 is meant for programs that use select(2). The launcher was
/// forked before, so containers do not inherit it.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays where it is");
    }
}

pub(crate) fn random() -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    // Eight bytes are never given in part. Source: getrandom(2).
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u64::from_ne_bytes(bytes))
}
