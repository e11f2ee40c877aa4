//! What is looked at and made before a cluster is started, so that nothing is begun that cannot go on.

use std::{
    io::ErrorKind,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::Path,
};

use manifest::Manifest;

use crate::{args::Global, connect::answers, exit::Failure, ports};

pub async fn check_may_run(global: &Global) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::new("containers, networks and mounts need root").help("use sudo"));
    }
    if answers(&global.socket).await {
        let message = format!("a cluster answers at {} already", global.socket.display());
        return Err(Failure::new(message).help("`wharf apply -f FILE` gives it more to do; or stop it first"));
    }
    Ok(())
}

/// Here a port that is taken is an error: the two would fight for this very machine.
pub fn check_ports(manifests: &[Manifest]) -> Result<(), Failure> {
    match ports::taken(manifests).first() {
        None => Ok(()),
        Some(taken) => {
            let message = format!("port {} of this machine is in use", taken.port);
            let help = "stop that process, or publish another port";
            Err(Failure::new(message).because(taken.to_string()).help(help))
        }
    }
}

/// One cluster at a time: bridge, firewall table and control groups of a second would be those of the first.
///
/// An abstract socket is a name that the kernel takes back when its owner ends, however it ends, and that is known in
/// one network namespace, which is what there is to fight for. Source: unix(7).
pub struct Lock {
    _name: UnixDatagram,
}

impl Lock {
    pub fn take() -> Result<Lock, Failure> {
        let taken =
            SocketAddr::from_abstract_name("wharf-dev").and_then(|name| UnixDatagram::bind_addr(&name));
        match taken {
            Ok(name) => Ok(Lock { _name: name }),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                let failure = Failure::new("another `wharf dev` runs on this machine, under another socket");
                Err(failure
                    .help("stop it first: both would use the same bridge, firewall table and control groups"))
            }
            Err(error) => Err(Failure::new("the lock of `wharf dev` cannot be taken").caused_by(error)),
        }
    }
}

/// Only what earlier runs made is removed, never the folder that the user named.
pub fn forget(data: &Path) -> Result<(), Failure> {
    for part in ["server", "agent"] {
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
