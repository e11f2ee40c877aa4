//! Whether a container with a user namespace could have its files: tried on the very filesystem that they are on.
//!
//! Kernels learned to map the owners of files one filesystem after the other, so neither a version nor a name tells.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::Mode;
use rustix::process::{Pid, Signal, WaitOptions};

use super::prepare::detached;
use super::rootfs;
use crate::failure::{At, Failure, Step};
use crate::features::{Scratch, features};
use crate::frame::{self, Reply};
use crate::sys::{self, MountAttr};
use crate::{Rootfs, Trial};

/// What root of the user namespace is outside. Any number but zero will do.
const OWNER: u32 = 100_000;

/// Tries it in the launcher's fork, tells, and ends.
pub(crate) fn run(trial: &Trial, reply: &OwnedFd) -> ! {
    let told = match attempt(trial) {
        Ok(()) => Reply::Tried,
        Err(failure) => Reply::Failed(failure.into()),
    };
    // The caller may have given up; then nobody needs the answer.
    let _unheard = frame::send_reply(reply.as_fd(), &told, &[]);
    sys::exit_now(0)
}

pub(crate) fn attempt(trial: &Trial) -> Result<(), Failure> {
    let bystander = Bystander::new(libc::CLONE_NEWUSER as u64).at(Step::Namespaces, "user namespace")?;
    let userns = bystander.mapped_userns().at(Step::Namespaces, "user namespace")?;
    match trial {
        Trial::Layers { dir } => layers(dir, &userns),
        Trial::Bind { source, recursive } => {
            detached(source, *recursive, MountAttr::default(), Some(&userns))
                .map(drop)
                .at(Step::Mount, format_args!("{} with mapped owners", source.display()))
        }
    }
}

/// Mounts layers as a start does, and makes something as the container's root would.
fn layers(dir: &Path, userns: &OwnedFd) -> Result<(), Failure> {
    let subject = format_args!("layers with mapped owners in {}", dir.display());
    if !features().mapped_layers {
        return Err(Failure::new(Step::Rootfs, subject, "switched off"));
    }
    let scratch = Scratch::new(dir).at(Step::Rootfs, subject)?;
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| scratch.path(name));
    for path in [&lower, &upper, &work] {
        fs::create_dir(path).at(Step::Rootfs, path.display())?;
    }
    let rootfs = Rootfs::Overlay { lowers: vec![lower], upper: upper.clone(), work };
    let root = rootfs::mount(&rootfs, Some(userns), (OWNER, OWNER))?;
    rootfs::acting_as((OWNER, OWNER), || {
        rustix::fs::mkdirat(&root, "made", Mode::from_raw_mode(0o755)).at(Step::Rootfs, subject)
    })?;
    let made = rustix::fs::stat(upper.join("made")).at(Step::Rootfs, subject)?;
    if made.st_uid != 0 {
        return Err(Failure::new(Step::Rootfs, subject, "owners are not mapped back"));
    }
    Ok(())
}

/// A process in new namespaces that does nothing until it is killed.
pub(crate) struct Bystander {
    pid: Pid,
}

impl Bystander {
    pub(crate) fn new(namespaces: u64) -> io::Result<Bystander> {
        match sys::clone3(namespaces, None)? {
            Some(cloned) => Ok(Bystander { pid: cloned.pid }),
            // Only system calls from here on: the caller may have threads whose locks this copy would wait for.
            None => loop {
                // SAFETY: pause has no arguments and touches no memory.
                unsafe { libc::pause() };
            },
        }
    }

    /// Its user namespace, in which root is `OWNER`.
    pub(crate) fn mapped_userns(&self) -> io::Result<OwnedFd> {
        let pid = self.pid.as_raw_nonzero();
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{pid}/{map}"), format!("0 {OWNER} 65536\n"))?;
        }
        Ok(fs::File::open(format!("/proc/{pid}/ns/user"))?.into())
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        // It cannot be gone: nobody else reaps it.
        let _killed = rustix::process::kill_process(self.pid, Signal::KILL);
        let _reaped = rustix::process::waitpid(Some(self.pid), WaitOptions::empty());
    }
}
