//! A daemon that `dev` started: kept alive until it is told to stop.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    sync::{oneshot, watch},
    task::JoinHandle,
};

use super::place::Program;
use crate::{exit::Failure, output::remark};

/// A daemon that dies again within this long waits before it is started once more.
const STABLE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_secs(1);
/// One death at the start may be an accident, such as a port or a lock that an earlier run has not given back yet.
const HOPELESS: u32 = 3;

pub struct Daemon {
    /// For people: "server", "agent of host-2".
    name: String,
    program: Program,
    /// How long its log was before.
    log_began: u64,
    stop: oneshot::Sender<()>,
    /// How often it died young, in a row.
    deaths: watch::Receiver<u32>,
    keeper: JoinHandle<bool>,
}

impl Daemon {
    pub fn start(name: String, program: Program) -> Result<Daemon, Failure> {
        let log_began = program.log_length();
        let mut command = program.command()?;
        let child = command
            .spawn()
            .map_err(|error| Failure::new(format!("the {name} cannot be started")).caused_by(error))?;
        let (stop, stopped) = oneshot::channel();
        let (died, deaths) = watch::channel(0);
        let keeper = Keeper { name: name.clone(), program: program.clone(), command, died };
        let keeper = tokio::spawn(keeper.keep(child, stopped));
        Ok(Daemon { name, program, log_began, stop, deaths, keeper })
    }

    pub fn program(&self) -> &Program {
        &self.program
    }

    pub fn log(&self) -> &Path {
        &self.program.log
    }

    /// Completes when it died so often that it will not come up by itself, with its last words.
    pub async fn cannot_start(&mut self) -> Failure {
        if self.deaths.wait_for(|deaths| *deaths >= HOPELESS).await.is_err() {
            // Told to stop: nothing more will be known.
            return std::future::pending().await;
        }
        let failure = Failure::new(format!("the {} ends again and again", self.name));
        let failure = self.program.last_words(self.log_began).into_iter().fold(failure, Failure::because);
        failure.help(format!("all of its log is in {}", self.log().display()))
    }

    /// SIGTERM, then waits for its end. Whether it ended well: not so when it was dead already, or had not come far
    /// enough to listen.
    pub async fn stop(self) -> bool {
        // Fails only when the keeper has ended, and with it the daemon.
        let _ = self.stop.send(());
        self.keeper.await.unwrap_or(false)
    }
}

struct Keeper {
    name: String,
    program: Program,
    command: Command,
    died: watch::Sender<u32>,
}

impl Keeper {
    /// Says in the end whether the daemon ended well when it was told to.
    async fn keep(mut self, mut child: Child, mut stopped: oneshot::Receiver<()>) -> bool {
        loop {
            let started = Instant::now();
            let status = tokio::select! {
                status = child.wait() => status,
                _ = &mut stopped => return terminate(&mut child).await,
            };
            let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            let died_young = started.elapsed() < STABLE;
            self.died.send_modify(|deaths| *deaths = if died_young { *deaths + 1 } else { 0 });
            let (name, log) = (&self.name, self.program.log.display());
            remark(&format!("the {name} ended ({how}) and is started again; its log is {log}\n"));
            child = match self.start_again(died_young, &mut stopped).await {
                Some(child) => child,
                None => return false,
            };
        }
    }

    /// None when it was told to stop meanwhile.
    async fn start_again(&mut self, pause: bool, stopped: &mut oneshot::Receiver<()>) -> Option<Child> {
        let mut pause = pause;
        loop {
            if pause {
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    _ = &mut *stopped => return None,
                }
            }
            match self.command.spawn() {
                Ok(child) => return Some(child),
                Err(error) => remark(&format!("the {} cannot be started again: {error}\n", self.name)),
            }
            pause = true;
        }
    }
}

async fn terminate(child: &mut Child) -> bool {
    if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        // Fails only when it has ended by itself.
        let _ = kill_process(pid, Signal::TERM);
    }
    child.wait().await.is_ok_and(|status| status.success())
}

/// Runs a program to its end, without anybody starting it again. Whether it ended well.
pub async fn run_once(program: &Program) -> Result<bool, Failure> {
    let failed = |error| Failure::new("the program cannot be started again").caused_by(error);
    Ok(program.command()?.status().await.map_err(failed)?.success())
}
