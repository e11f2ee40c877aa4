//! What is looked at and made before a cluster is started, so that nothing is begun that cannot go on.

use std::{
    io::ErrorKind,
    path::Path,
    time::{Duration, Instant},
};

use manifest::Manifest;

use super::hosts;
use crate::{
    args::{Agent, Global},
    connect::answers,
    exit::Failure,
    lock::Lock,
    output::progress::{Progress, Step},
    ports,
};

pub async fn check_may_run(global: &Global) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::new("containers, networks and mounts need root").help("use sudo"));
    }
    let began = Instant::now();
    while answers(&global.socket).await {
        // The server of a run that was killed a moment ago ends by itself: nobody has the lock of that run any more.
        if Lock::take(Lock::DEV).ok().flatten().is_none() || began.elapsed() > ENDING {
            let message = format!("a cluster answers at {} already", global.socket.display());
            return Err(
                Failure::new(message).help("`wharf apply -f FILE` gives it more to do; or stop it first")
            );
        }
        tokio::time::sleep(Progress::TICK).await;
    }
    Ok(())
}

/// How long a server of an earlier run may still answer.
const ENDING: Duration = Duration::from_secs(5);

/// Here a port that is taken is an error: the two would fight for this very machine.
pub fn check_ports(manifests: &[Manifest]) -> Result<(), Failure> {
    match ports::taken_by(manifests).first() {
        None => Ok(()),
        Some(taken) => {
            let message = format!("port {} of this machine is in use", taken.port);
            let help = "stop that process, or publish another port";
            Err(Failure::new(message).because(taken.to_string()).help(help))
        }
    }
}

/// How long an agent of an earlier run may still stop its containers.
const EARLIER: Duration = Duration::from_secs(120);

/// One cluster at a time: bridge, firewall table and control groups of a second would be those of the first.
pub async fn take_lock() -> Result<Lock, Failure> {
    let failed = |error| Failure::new("the lock of `wharf dev` cannot be taken").caused_by(error);
    let Some(lock) = Lock::take(Lock::DEV).map_err(failed)? else {
        let failure = Failure::new("another `wharf dev` runs on this machine, under another socket");
        return Err(
            failure.help("stop it first: both would use the same bridge, firewall table and control groups")
        );
    };
    // After a `wharf dev` that was killed, or that did not want to wait, its agent still stops what ran.
    let agent = Lock::agent(Agent::PREFIX);
    let began = Instant::now();
    let mut progress = Progress::new();
    let headline = "an agent of an earlier run still stops its containers; waiting for its end".to_owned();
    let step = Step { headline, detail: None };
    while Lock::take(&agent).map_err(failed)?.is_none() {
        if began.elapsed() > EARLIER {
            let failure = Failure::new("an agent runs on this machine already");
            return Err(failure.help("stop it first, or apply to the cluster that it belongs to"));
        }
        match progress.is_open("wharf") {
            false => progress.show("wharf", &step),
            true => progress.tick(),
        }
        tokio::time::sleep(Progress::TICK).await;
    }
    hosts::wait_for_earlier().await?;
    Ok(lock)
}

/// Only what earlier runs made is removed, never the folder that the user named.
pub fn forget(data: &Path) -> Result<(), Failure> {
    for part in ["server", "agent", hosts::FOLDER] {
        match std::fs::remove_dir_all(data.join(part)) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => {
                let message = format!("cannot remove {}", data.join(part).display());
                return Err(Failure::new(message).caused_by(error));
            }
        }
    }
    Ok(())
}

pub fn prepare(data: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(data).map_err(|error| {
        let failure = Failure::new(format!("cannot keep state in {}", data.display()));
        match error.kind() {
            ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
                failure.because("there is a file of that name")
            }
            _ => failure.caused_by(error),
        }
        .help("--data names another folder")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgetting_leaves_what_wharf_did_not_make() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("server/log")).expect("a folder");
        std::fs::write(at("mine.txt"), "mine").expect("a file");
        forget(folder.path()).expect("both parts, one of which is not there");
        assert!(!at("server").exists() && at("mine.txt").exists());
        forget(&at("mine.txt")).expect("a file has no parts");
    }

    #[test]
    fn a_folder_for_state_that_cannot_be_made_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        std::fs::write(&file, "").expect("a file");
        for data in [file.clone(), file.join("below")] {
            let text = prepare(&data).expect_err("it is a file").render();
            assert!(text.contains("there is a file of that name"), "{text}");
        }
    }
}
