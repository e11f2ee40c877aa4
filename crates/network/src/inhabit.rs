//! Living in a sandbox as if it were a host: programs that start there, and a look around from this process.
//!
//! A sandbox that a program inhabits so has an address, a way out and a name: all that makes a host for whoever
//! talks to others. `wharf dev --nodes` makes its hosts of this.

use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::process::CommandExt},
    path::Path,
    process::Command,
    thread,
};

use rustix::{
    system::sethostname,
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};

/// Has what `command` starts, now and later, live in the network namespace at `netns`, as the host of this name.
/// Nothing changes for this process.
pub fn move_in(command: &mut Command, netns: &Path, host_name: &str) -> io::Result<()> {
    let namespace = File::open(netns)?;
    let host_name = host_name.to_owned();
    let enter = move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        // SAFETY: a namespace of host names: no memory and no descriptor is concerned.
        unsafe { unshare_unsafe(UnshareFlags::NEWUTS) }?;
        Ok(sethostname(host_name.as_bytes())?)
    };
    // SAFETY: between fork and exec only three system calls are made, on what was allocated before.
    unsafe { command.pre_exec(enter) };
    Ok(())
}

/// Does `work` in the network namespace at `netns`, in a thread of its own, and waits for it.
pub fn visit<T: Send>(netns: &Path, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let namespace = File::open(netns)?;
    thread::scope(|scope| {
        let visitor = thread::Builder::new().name("wharf-visit".to_string()).spawn_scoped(scope, || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(work())
        })?;
        visitor.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
