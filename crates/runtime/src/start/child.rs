//! The container's first process, from the clone to the exec.
//!
//! It owns its namespaces but sees the host's files until it pivots. Everything from the host arrives as descriptors;
//! everything in the image is reached through `mounts.rs`. It executes the sealed keeper program, never the image's file
//! from the agent's own executable, so that `/proc/self/exe` never leads back to it.

use std::convert::Infallible;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use oci_spec::runtime::LinuxNamespaceType;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::{MountPropagationFlags, MoveMountFlags, UnmountFlags};
use rustix::thread::{Gid, Uid};

use super::process::{self, Entry};
use super::{Pipes, attributes, filesystems, handout, masks, mounts, sync};
use crate::cgroup::Groups;
use crate::failure::{At, Failure, Step};
use crate::launcher::Context;
use crate::plan::Plan;
use crate::sys;

/// What the child inherits from its parent.
pub(super) struct Given {
    pub(super) sync: OwnedFd,
    pub(super) groups: Groups,
    /// `tasks` files of its v1 groups.
    pub(super) entrances: Vec<OwnedFd>,
    pub(super) pipes: Pipes,
}

/// Namespaces that the child makes itself. A network namespace takes long, and the parent has other things to do.
pub(super) const MADE_INSIDE: u64 = LinuxNamespaceType::Network as u64;

/// Becomes the application, or tells the parent why not and ends.
pub(super) fn run(context: &Context, plan: &Plan, seccomp: &[u8], given: Given) -> ! {
    let sync = given.sync.as_fd().try_clone_to_owned();
    let Err(failure) = set_up(context, plan, seccomp, given);
    if let Ok(sync) = sync {
        sync::tell_failure(&sync, &failure);
    }
    sys::exit_now(1)
}

fn set_up(context: &Context, plan: &Plan, seccomp: &[u8], given: Given) -> Result<Infallible, Failure> {
    let Given { sync, groups, entrances, pipes } = given;
    // Nothing in the container may look into a process that still is the agent's image.
    sys::prctl(libc::PR_SET_DUMPABLE, 0).at(Step::Namespaces, "dumpable")?;
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64).at(Step::Namespaces, "parent death signal")?;
    rustix::process::setsid().at(Step::Namespaces, "session")?;
    rustix::process::umask(Mode::empty());
    enter_groups(plan, entrances)?;
    let prepared = if plan.namespaces.makes(LinuxNamespaceType::User) {
        // Only a complete user namespace can own what is made in it.
        let prepared = handout::receive(plan, &sync)?;
        unshare(plan.namespaces.new & MADE_INSIDE)?;
        prepared
    } else {
        unshare(plan.namespaces.new & MADE_INSIDE)?;
        handout::receive(plan, &sync)?
    };
    become_root()?;

    let root = prepared.root;
    attach_root(&root)?;
    mounts::attach_all(&root, plan, &groups, prepared.mounts)?;
    let stdin = filesystems::open_stdin(&root)?;
    masks::make_read_only(&root, &plan.read_only)?;
    masks::mask(&root, &plan.masked)?;
    process::make_working_directory(root.as_fd(), &plan.process.cwd)?;
    if plan.read_only_root {
        let attr = sys::MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..sys::MountAttr::default() };
        attributes::change(&root, false, attr).at(Step::ReadOnly, "/")?;
    }
    set_names(plan)?;
    set_sysctls(plan)?;
    if plan.namespaces.makes(LinuxNamespaceType::Network) {
        raise_loopback()?;
    }
    pivot(&root)?;

    let entry = match pipes.report {
        Some((_, report)) => Entry::Init { report },
        None => Entry::Direct,
    };
    let stdio = [stdin, pipes.stdout.1, pipes.stderr.1];
    process::become_application(&plan.process, seccomp, stdio, entry, &context.program, &sync)
}

/// Enters the v1 groups, then makes them the root of a cgroup namespace.
fn enter_groups(plan: &Plan, entrances: Vec<OwnedFd>) -> Result<(), Failure> {
    for tasks in entrances {
        File::from(tasks).write_all(b"0").at(Step::Cgroup, "enter a v1 group")?;
    }
    if plan.namespaces.new_cgroup {
        unshare(LinuxNamespaceType::Cgroup as u64)?;
    }
    Ok(())
}

fn unshare(flags: u64) -> Result<(), Failure> {
    if flags != 0 {
        // SAFETY: changes only this process, which has a single thread.
        sys::check(libc::c_long::from(unsafe { libc::unshare(flags as i32) }))
            .at(Step::Namespaces, format_args!("unshare with flags {flags:#x}"))?;
    }
    Ok(())
}

/// Root of the user namespace, if there is one; else we are root already. No group of the agent stays.
fn become_root() -> Result<(), Failure> {
    rustix::thread::set_thread_groups(&[]).at(Step::User, "groups")?;
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).at(Step::User, "root")?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).at(Step::User, "root")
}

/// Mounts the root over `/`: we still see the host beneath it, because our own root directory does not change by that.
fn attach_root(root: &OwnedFd) -> Result<(), Failure> {
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", slave).at(Step::Rootfs, "propagation of the host's mounts")?;
    let from = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(root, "", rustix::fs::CWD, "/", from).at(Step::Rootfs, "attach")?;
    attributes::settle(root, false, sys::MountAttr::default()).at(Step::Rootfs, "make private")
}

fn set_names(plan: &Plan) -> Result<(), Failure> {
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name.as_bytes()).at(Step::Hostname, name)?;
    }
    if let Some(name) = &plan.domainname {
        rustix::system::setdomainname(name.as_bytes()).at(Step::Hostname, name)?;
    }
    Ok(())
}

/// Through a procfs of our own that is attached nowhere: what we write goes to the kernel, whatever the image or a
/// volume has put at `/proc` (CVE-2025-52881).
fn set_sysctls(plan: &Plan) -> Result<(), Failure> {
    if plan.sysctls.is_empty() {
        return Ok(());
    }
    let proc = filesystems::make("proc", &[], 0).at(Step::Sysctl, "proc")?;
    for (name, value) in &plan.sysctls {
        let path = format!("sys/{}", name.replace('.', "/"));
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat2(&proc, path, flags, Mode::empty(), resolve).at(Step::Sysctl, name)?;
        sys::write_all(file.as_fd(), value.as_bytes()).at(Step::Sysctl, format_args!("{name} = {value}"))?;
    }
    Ok(())
}

/// A new network namespace has a loopback interface that is down, which no program expects.
fn raise_loopback() -> Result<(), Failure> {
    use std::os::fd::AsRawFd;
    let kind = rustix::net::SocketType::DGRAM;
    let flags = rustix::net::SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(rustix::net::AddressFamily::INET, kind, flags, None)
        .at(Step::Namespaces, "lo")?;
    // SAFETY: an all-zero ifreq is valid, and the two requests read and write only its name and flags.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        sys::check(libc::c_long::from(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request)))
            .at(Step::Namespaces, "lo")?;
    }
    Ok(())
}

/// Makes the root `/` and lets go of the host's files.
fn pivot(root: &OwnedFd) -> Result<(), Failure> {
    rustix::process::fchdir(root).at(Step::Rootfs, "change directory")?;
    rustix::process::pivot_root(".", ".").at(Step::Rootfs, "pivot")?;
    // The host's root now lies on top of ours; what is detached was marked slave, so the host does not notice.
    rustix::mount::unmount(".", UnmountFlags::DETACH).at(Step::Rootfs, "detach the host")?;
    rustix::process::chdir("/").at(Step::Rootfs, "change directory")
}
