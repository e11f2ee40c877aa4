//! A network namespace, made by a thread that lives in it for a moment and is gone.
//!
//! The caller's thread never changes its namespace. What remains is a descriptor that keeps the namespace
//! alive, and a netlink socket opened inside, through which it is configured from outside. If the process
//! dies, so does every namespace that was not pinned to the file system yet: a crash leaves nothing behind.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
    thread,
};

use rustix::{
    fs::statfs,
    io::Errno,
    mount::{UnmountFlags, mount_bind, unmount},
    thread::{UnshareFlags, unshare_unsafe},
};

use crate::netlink::{self, Protocol, Socket};

/// Why there is no namespace.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    #[error("could not start a thread that makes a network namespace")]
    Thread(#[source] io::Error),
    #[error("could not make a network namespace: this takes root and a kernel with CONFIG_NET_NS")]
    Unshare(#[source] io::Error),
    #[error("could not open the new network namespace under /proc: is /proc mounted?")]
    Open(#[source] io::Error),
    #[error("could not open a netlink socket in the new network namespace")]
    Socket(#[source] netlink::Error),
    #[error("could not pin the namespace to {path}: {advice}", path = .path.display())]
    Pin { path: std::path::PathBuf, advice: &'static str, source: io::Error },
}

/// Ports below 1024 and ping for programs without privileges: in a network namespace of their own, nobody else
/// can lose by it.
const COMFORTS: [(&str, &str); 2] = [
    ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
    ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"),
];

/// A network namespace that lives as long as this value, or as long as its pin or a process in it.
pub(crate) struct Namespace {
    fd: OwnedFd,
    pub(crate) inside: Socket,
}

impl Namespace {
    pub(crate) fn create() -> Result<Namespace, NamespaceError> {
        in_new_namespace("wharf-netns", || {
            for (path, value) in COMFORTS {
                // Without them only programs that count on them fail, and say so themselves.
                if let Err(error) = std::fs::write(path, value) {
                    tracing::debug!(path, %error, "a sandbox goes without this setting");
                }
            }
            let fd = File::open("/proc/thread-self/ns/net").map_err(NamespaceError::Open)?.into();
            let inside = Socket::open(Protocol::Route).map_err(NamespaceError::Socket)?;
            Ok(Namespace { fd, inside })
        })?
    }

    /// Makes the namespace outlive this process, under `path`.
    pub(crate) fn pin(&self, path: &Path) -> Result<(), NamespaceError> {
        pin(&self.fd, path)
    }

    /// What keeps it alive, once it is configured.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

/// Makes a namespace outlive this process, under `path`. The file is made by the call.
pub(crate) fn pin(namespace: &OwnedFd, path: &Path) -> Result<(), NamespaceError> {
    let failed = |advice| move |source| NamespaceError::Pin { path: path.to_path_buf(), advice, source };
    File::create(path).map_err(failed("the directory must exist and be writable"))?;
    let source = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    mount_bind(source, path)
        .map_err(io::Error::from)
        .map_err(failed("this takes root in the host's mount namespace"))
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Runs `work` in a new network namespace, in a thread of its own.
pub(crate) fn in_new_namespace<T: Send>(
    name: &str,
    work: impl FnOnce() -> T + Send,
) -> Result<T, NamespaceError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name(name.to_string())
            .stack_size(128 << 10)
            .spawn_scoped(scope, || {
                // SAFETY: only the network namespace of this one thread changes; descriptors stay shared.
                unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
                    .map_err(|errno| NamespaceError::Unshare(errno.into()))?;
                Ok(work())
            })
            .map_err(NamespaceError::Thread)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Whether a namespace is mounted at `path`.
pub(crate) fn is_pinned(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.f_type == libc::NSFS_MAGIC)
}

/// Takes the pin away; fine if there is none. The namespace goes when its last process has gone.
pub(crate) fn unpin(path: &Path) -> io::Result<()> {
    match unmount(path, UnmountFlags::DETACH) {
        // EINVAL: a file on which nothing is mounted.
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
