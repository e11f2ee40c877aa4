//! Waiting for descriptors without a thread for each.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use tokio::io::{Interest, unix::AsyncFd};

/// Tells when `what` can be read or written. Holds a duplicate, so that nobody can close it meanwhile.
pub(crate) fn of(what: &impl AsFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    owned(what.as_fd().try_clone_to_owned()?, interest)
}

/// The same, of a descriptor of our own. It must not block, if it is to be read or written.
// tokio's other constructor is unsafe, for types that could name a descriptor which is not theirs. This one is owned.
#[allow(deprecated)]
pub(crate) fn owned(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, interest)
}
