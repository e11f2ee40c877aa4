//! How hosts become a cluster: what an administrator types on each of them, typed here.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::future::try_join_all;
use model::HostRole;
use proto::v1::{self, MemberPart};
use trust::folder::IdentityFolder;

use super::{Host, Hosts};
use crate::{
    args::Global,
    connect::{self, Client},
    exit::Failure,
    membership::trust_dir,
    verbs::dev::{
        cluster::{Cluster, nodes_ready},
        daemon,
        place::Program,
    },
};

/// Where servers listen, as `wharf cluster init` has it by default.
const PORT: u16 = 7400;
/// They are used at once.
const TOKEN_LIFE: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_millis(20);

/// What the agent of a host calls its control groups, bridge and firewall table after.
pub fn prefix(host: &str) -> String {
    host.replace("host", "wharf")
}

impl Hosts {
    /// Starts a server and an agent wherever there is to be one, and completes when all of them take part.
    pub async fn form(&self, cluster: &mut Cluster, global: &Global) -> Result<Client, Failure> {
        let founder = Part { host: self.first(), role: HostRole::Server };
        if !founder.has_joined()? {
            founder.run_once(&["cluster", "init"], &founder.reached(), None).await?;
        }
        let (mut joined, mut new) = (Vec::new(), Vec::new());
        for part in self.parts() {
            if part.has_joined()? { joined.push(part) } else { new.push(part) }
        }
        for part in joined {
            part.start(cluster)?;
        }
        if !new.is_empty() {
            let joins = new.iter().map(|part| part.join(&founder));
            cluster.until("a server is started, and the other hosts join it", try_join_all(joins)).await?;
        }
        for part in new {
            part.start(cluster)?;
        }
        let headline = "all servers and agents are started; the first time, each makes the demo image";
        cluster.until(headline, self.all_up(global)).await
    }

    /// The servers first.
    fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let servers = self.all.iter().filter(|host| host.serves);
        let servers = servers.map(|host| Part { host, role: HostRole::Server });
        servers.chain(self.all.iter().map(|host| Part { host, role: HostRole::Agent }))
    }

    async fn all_up(&self, global: &Global) -> Result<Client, Failure> {
        while !self.all_vote(&global.socket).await.unwrap_or(false) {
            tokio::time::sleep(PAUSE).await;
        }
        let names: Vec<String> = self.all.iter().map(|host| host.name.clone()).collect();
        nodes_ready(global, &names).await
    }

    async fn all_vote(&self, socket: &Path) -> Result<bool, Failure> {
        let mut client = connect::cluster_at_socket(socket).await?;
        let members = client.get_cluster(v1::GetClusterRequest {}).await?.into_inner().members;
        let voters = members.iter().filter(|member| member.now() == MemberPart::Voter);
        let voters: Vec<&str> =
            voters.filter_map(|member| Some(member.member.as_ref()?.name.as_str())).collect();
        Ok(self.all.iter().filter(|host| host.serves).all(|host| voters.contains(&host.name.as_str())))
    }
}

/// Waits until the server at this socket answers, and has it make what one host joins with.
async fn token(socket: &Path, role: HostRole) -> Result<String, Failure> {
    while !connect::answers(socket).await {
        tokio::time::sleep(PAUSE).await;
    }
    let request = v1::CreateJoinTokenRequest {
        role: v1::HostRole::from(role).into(),
        expires_after_ms: Some(TOKEN_LIFE.as_millis() as u64),
        uses: Some(1),
        replaces_others: false,
    };
    Ok(connect::cluster_at_socket(socket).await?.create_join_token(request).await?.into_inner().token)
}

/// The server or the agent of a host.
struct Part<'a> {
    host: &'a Host,
    role: HostRole,
}

impl Part<'_> {
    fn data(&self) -> PathBuf {
        self.host.data.join(self.role.as_str())
    }

    fn log(&self) -> PathBuf {
        self.host.data.join(format!("{}.log", self.role.as_str()))
    }

    fn has_joined(&self) -> Result<bool, Failure> {
        let trust = trust_dir(&self.data());
        if !trust.exists() {
            return Ok(false);
        }
        let stored = IdentityFolder::open(&trust).and_then(|folder| folder.load());
        let failed = |error| Failure::new(format!("cannot use {}", trust.display())).caused_by(error);
        Ok(stored.map_err(failed)?.is_some())
    }

    /// Where the server is reached by other hosts.
    fn reached(&self) -> String {
        format!("{}:{PORT}", self.host.address)
    }

    async fn join(&self, known: &Part<'_>) -> Result<(), Failure> {
        let token = token(&known.host.socket, self.role).await?;
        self.run_once(&["join", &known.reached()], &self.reached(), Some(token)).await
    }

    /// Runs a verb that makes the host one of a cluster.
    async fn run_once(&self, verb: &[&str], reached: &str, token: Option<String>) -> Result<(), Failure> {
        let data = self.data();
        let mut options = vec![("--data", data.as_os_str())];
        if self.role == HostRole::Server {
            options.push(("--advertise", OsStr::new(reached)));
        }
        let mut program = Program::new(&self.host.place, verb, &options, &self.log());
        // Not among the arguments, which everybody on the machine can see.
        program.token = token;
        let began = program.log_length();
        if daemon::run_once(&program).await? {
            return Ok(());
        }
        let failure =
            Failure::new(format!("{} cannot become the {} of a cluster", self.host.name, self.role.as_str()));
        Err(program.last_words(began).into_iter().fold(failure, Failure::because))
    }

    fn start(&self, cluster: &mut Cluster) -> Result<(), Failure> {
        let (host, data) = (self.host, self.data());
        let name = format!("{} of {}", self.role.as_str(), host.name);
        let program = |words: &[&str], more: &[(&str, &OsStr)]| {
            let options = [&[("--data", data.as_os_str())], more].concat();
            Program::new(&host.place, words, &options, &self.log())
        };
        match self.role {
            HostRole::Server => {
                let listen = [("--listen", host.socket.as_os_str())];
                cluster.start_server(name, program(&["server", "--supervised"], &listen))
            }
            HostRole::Agent => {
                let (run, prefix) = (host.run.join("agent"), prefix(&host.name));
                let apart = [("--run", run.as_os_str()), ("--prefix", OsStr::new(&prefix))];
                cluster.start_agent(name, program(&["agent", "--supervised", "--stop-on-exit"], &apart))
            }
        }
    }
}
