//! The processes of the cluster: started, watched until it is up, stopped in order.

use std::{future::Future, path::Path, time::Duration};

use futures_util::future::{join_all, select_all};

use super::{
    Interrupts,
    daemon::{self, Daemon},
    place::{Place, Program},
};
use crate::{
    args::Global,
    ask::{self, Question},
    connect::{Client, at_socket},
    exit::Failure,
    output::{
        progress::{Progress, Step},
        say,
    },
};

/// Starting takes a moment; longer than this and something is wrong that its log tells.
const START: Duration = Duration::from_secs(60);

/// All daemons that were started, by what they are.
#[derive(Default)]
pub struct Cluster {
    servers: Vec<Daemon>,
    agents: Vec<Daemon>,
}

/// How stopping ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Nothing is left.
    All,
    /// The user would not wait: the agent stops what runs, and then ends.
    LeftToAgent,
}

impl Cluster {
    /// One server and one agent, which live on this machine itself. Completes when the agent has a session.
    pub async fn start_here(&mut self, global: &Global, data: &Path) -> Result<Client, Failure> {
        let socket = global.socket.as_os_str();
        let run = global.socket.parent().unwrap_or(Path::new("/run/wharf")).join("agent");
        let (server_data, agent_data) = (data.join("server"), data.join("agent"));
        let server = Program::new(
            &Place::Machine,
            &["server", "--supervised"],
            &[("--data", server_data.as_os_str()), ("--listen", socket)],
            &data.join("server.log"),
        );
        let agent = Program::new(
            &Place::Machine,
            &["agent", "--supervised", "--stop-on-exit"],
            &[("--data", agent_data.as_os_str()), ("--run", run.as_os_str()), ("--server", socket)],
            &data.join("agent.log"),
        );
        self.start_server("server".to_owned(), server)?;
        self.start_agent("agent".to_owned(), agent)?;
        let headline = "starting a server and an agent; the first time, the demo image is made";
        self.until(headline, nodes_ready(global, &[])).await
    }

    pub fn start_server(&mut self, name: String, program: Program) -> Result<(), Failure> {
        self.servers.push(Daemon::start(name, program)?);
        Ok(())
    }

    pub fn start_agent(&mut self, name: String, program: Program) -> Result<(), Failure> {
        self.agents.push(Daemon::start(name, program)?);
        Ok(())
    }

    /// Waits for something that these daemons do by themselves, unless one of them cannot.
    pub async fn until<T>(
        &mut self,
        headline: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut progress = Progress::new();
        progress.show("wharf", &Step { headline: headline.to_owned(), detail: None });
        let ticks = async {
            loop {
                tokio::time::sleep(Progress::TICK).await;
                progress.tick();
            }
        };
        let logs = self.daemons().map(|daemon| daemon.log().display().to_string()).collect::<Vec<_>>();
        let broken = self.daemons().map(|daemon| Box::pin(daemon.cannot_start()));
        tokio::select! {
            done = work => done,
            () = ticks => unreachable!("ticks have no end"),
            (failure, ..) = select_all(broken) => Err(failure),
            () = tokio::time::sleep(START) => {
                let failure = Failure::new(format!("the cluster did not come up in time: {headline}"));
                Err(failure.help(format!("see {}", logs.join(" and "))))
            }
        }
    }

    fn daemons(&mut self) -> impl Iterator<Item = &mut Daemon> {
        self.servers.iter_mut().chain(&mut self.agents)
    }

    /// The agents first: they stop the containers, and say so to servers that still listen.
    pub async fn stop(self, interrupts: &mut Interrupts) -> Stopped {
        let stop = async {
            join_all(self.agents.into_iter().map(stop_agent)).await;
            join_all(self.servers.into_iter().map(Daemon::stop)).await;
        };
        tokio::pin!(stop);
        let mut pressed = 0;
        loop {
            tokio::select! {
                _ = &mut stop => return Stopped::All,
                () = interrupts.next() => pressed += 1,
            }
            if pressed > 1 {
                say("not waiting; the agent stops what runs, and then ends");
                return Stopped::LeftToAgent;
            }
            say("still stopping: containers get their stopGrace; once more ends this without waiting");
        }
    }
}

/// Of an agent that was dead at the end the containers are not: another one adopts them only to stop them.
async fn stop_agent(agent: Daemon) {
    let mut again = agent.program().clone();
    if agent.stop().await {
        return;
    }
    again.args.push("--stop-now".into());
    if !daemon::run_once(&again).await.unwrap_or(false) {
        let log = again.log.display();
        say(format_args!(
            "containers may be left, because the agent cannot stop them: see {log}; the next `wharf dev` takes them over"
        ));
    }
}

/// Waits until all of these nodes are ready; without names, until one is.
pub async fn nodes_ready(global: &Global, names: &[String]) -> Result<Client, Failure> {
    loop {
        if let Ok(mut client) = at_socket(&global.socket).await
            && let Ok(answer) = ask::status(&mut client, Question::nodes()).await
        {
            let ready = answer.nodes.iter().filter(|node| node.reach == model::Reach::Ready);
            let ready: Vec<String> = ready.map(|node| node.node.info.name.to_string()).collect();
            if !ready.is_empty() && names.iter().all(|name| ready.contains(name)) {
                return Ok(client);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
