//! The processes of the cluster: started together, stopped in order.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
    time::Duration,
};

use super::{
    Interrupts,
    daemon::{self, Daemon},
};
use crate::{
    args::Global,
    ask::{self, Question},
    connect::{Client, connect},
    exit::Failure,
    output::{
        progress::{Progress, Step},
        say,
    },
};

/// Starting takes a moment; longer than this and something is wrong that its log tells.
const START: Duration = Duration::from_secs(60);

pub struct Cluster {
    server: Daemon,
    agent: Daemon,
    agent_args: Vec<OsString>,
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
    pub fn start(global: &Global, data: &Path) -> Result<Cluster, Failure> {
        let socket = global.socket.as_os_str();
        let run = global.socket.parent().unwrap_or(Path::new("/run/wharf")).join("agent");
        let (server_data, agent_data) = (data.join("server"), data.join("agent"));
        let server_args = daemon_args(
            &["server", "--supervised"],
            &[("--data", server_data.as_os_str()), ("--listen", socket)],
        );
        let agent_args = daemon_args(
            &["agent", "--supervised", "--stop-on-exit"],
            &[("--data", agent_data.as_os_str()), ("--run", run.as_os_str()), ("--server", socket)],
        );
        Ok(Cluster {
            server: Daemon::start("server", &server_args, &data.join("server.log"))?,
            agent: Daemon::start("agent", &agent_args, &data.join("agent.log"))?,
            agent_args,
        })
    }

    /// Waits until the server answers and the agent has a session.
    pub async fn wait_until_up(&mut self, global: &Global) -> Result<Client, Failure> {
        let mut progress = Progress::new();
        let headline = "starting a server and an agent; the first time, the demo image is made".to_owned();
        progress.show("wharf", &Step { headline, detail: None });
        let ticks = async {
            loop {
                tokio::time::sleep(Progress::TICK).await;
                progress.tick();
            }
        };
        let (server, agent) = (&mut self.server, &mut self.agent);
        tokio::select! {
            client = wait_for_node(global) => client,
            () = ticks => unreachable!("ticks have no end"),
            failure = server.cannot_start() => Err(failure),
            failure = agent.cannot_start() => Err(failure),
            () = tokio::time::sleep(START) => {
                let logs = format!("see {} and {}", self.server.log().display(), self.agent.log().display());
                Err(Failure::new("the cluster did not come up in time").help(logs))
            }
        }
    }

    /// The agent first: it stops the containers, and says so to a server that still listens.
    pub async fn stop(self, interrupts: &mut Interrupts) -> Stopped {
        let stop = async {
            let log = self.agent.log().to_owned();
            if !self.agent.stop().await {
                stop_what_is_left(self.agent_args, &log).await;
            }
            self.server.stop().await;
        };
        tokio::pin!(stop);
        let mut pressed = 0;
        loop {
            tokio::select! {
                () = &mut stop => return Stopped::All,
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

/// For an agent that was dead at the end: its containers are not. Another one adopts them only to stop them.
async fn stop_what_is_left(mut agent_args: Vec<OsString>, log: &Path) {
    agent_args.push("--stop-now".into());
    if !daemon::run_once(&agent_args, log).await.unwrap_or(false) {
        let log = log.display();
        say(format!(
            "containers may be left, because the agent cannot stop them: see {log}; the next `wharf dev` takes them over"
        ));
    }
}

fn daemon_args(words: &[&str], options: &[(&str, &OsStr)]) -> Vec<OsString> {
    let words = words.iter().map(OsString::from);
    words
        .chain(options.iter().flat_map(|(name, value)| [OsString::from(name), (*value).to_owned()]))
        .collect()
}

async fn wait_for_node(global: &Global) -> Result<Client, Failure> {
    loop {
        if let Ok(mut client) = connect(&global.socket).await
            && let Ok(answer) = ask::status(&mut client, Question::nodes()).await
            && answer.nodes.iter().any(|node| node.reach == model::Reach::Ready)
        {
            return Ok(client);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
