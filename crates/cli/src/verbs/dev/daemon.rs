//! A daemon that `dev` started: kept alive until it is told to stop.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    sync::oneshot,
    task::JoinHandle,
};

use super::log_file;
use crate::exit::Failure;

/// A daemon that dies again within this long waits before it is started once more.
const STABLE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_secs(1);

pub struct Daemon {
    log: PathBuf,
    stop: oneshot::Sender<()>,
    keeper: JoinHandle<()>,
}

impl Daemon {
    pub fn start(name: &'static str, args: &[&OsStr], log: &Path) -> Result<Daemon, Failure> {
        let failed = |error| Failure::new(format!("the {name} cannot be started")).caused_by(error);
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        // A group of its own: Ctrl-C in the terminal is for `dev` alone, which stops the others in order.
        command.args(args).process_group(0).stdin(std::process::Stdio::null());
        command.stdout(log_file(log)?).stderr(log_file(log)?);
        let child = command.spawn().map_err(failed)?;
        let (stop, stopped) = oneshot::channel();
        let keeper = tokio::spawn(keep(name, command, child, stopped, log.to_owned()));
        Ok(Daemon { log: log.to_owned(), stop, keeper })
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// SIGTERM, then waits for its end.
    pub async fn stop(self) {
        // Fails only when the keeper has ended, and with it the daemon.
        let _ = self.stop.send(());
        let _ = self.keeper.await;
    }
}

async fn keep(
    name: &str,
    mut command: Command,
    mut child: Child,
    mut stopped: oneshot::Receiver<()>,
    log: PathBuf,
) {
    loop {
        let started = Instant::now();
        let status = tokio::select! {
            status = child.wait() => status,
            _ = &mut stopped => return terminate(&mut child).await,
        };
        let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        anstream::eprintln!("the {name} ended ({how}) and is started again; its log is {}", log.display());
        if started.elapsed() < STABLE {
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                _ = &mut stopped => return,
            }
        }
        child = loop {
            match command.spawn() {
                Ok(child) => break child,
                Err(error) => {
                    anstream::eprintln!("the {name} cannot be started again: {error}");
                    tokio::select! {
                        () = tokio::time::sleep(PAUSE) => {}
                        _ = &mut stopped => return,
                    }
                }
            }
        };
    }
}

async fn terminate(child: &mut Child) {
    if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        // Fails only when it has ended by itself.
        let _ = kill_process(pid, Signal::TERM);
    }
    let _ = child.wait().await;
}
