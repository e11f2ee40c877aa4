//! What the child gets from outside after it was cloned: the id maps of its user namespace, and the mounts that it
//! could not make itself.
//!
//! Made while the child is busy with its own namespaces, so that both processors of a small host have something to do.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};

use super::prepare::{self, Prepared, comes_prepared};
use crate::failure::{At, Failure, Step};
use crate::frame;
use crate::plan::{IdRange, Plan};

/// A user and group of the container as the host sees them.
pub(super) fn on_host(plan: &Plan, uid: u32, gid: u32) -> (u32, u32) {
    (translate(&plan.namespaces.uids, uid), translate(&plan.namespaces.gids, gid))
}

/// Without ranges an id is itself; one outside all ranges is nobody.
fn translate(ranges: &[IdRange], id: u32) -> u32 {
    const NOBODY: u32 = 65_534;
    if ranges.is_empty() {
        return id;
    }
    let inside = |range: &&IdRange| id.checked_sub(range.container).is_some_and(|offset| offset < range.size);
    ranges.iter().find(inside).map_or(NOBODY, |range| range.host + (id - range.container))
}

/// In the parent: completes the user namespace, if there is one, and hands the mounts over.
pub(super) fn send(plan: &Plan, pid: i32, channel: &OwnedFd) -> Result<(), Failure> {
    let userns = if plan.namespaces.uids.is_empty() { None } else { Some(complete_userns(plan, pid)?) };
    let Prepared { root, mounts } = prepare::all(plan, userns.as_ref())?;
    let fds: Vec<_> = [&root].into_iter().chain(&mounts).map(AsFd::as_fd).collect();
    match frame::send(channel.as_fd(), b"m", &fds) {
        // It has ended already, and has left its reason in the channel.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET)) => Ok(()),
        other => other.at(Step::Namespaces, "hand over mounts"),
    }
}

fn complete_userns(plan: &Plan, pid: i32) -> Result<OwnedFd, Failure> {
    for (file, ranges) in [("uid_map", &plan.namespaces.uids), ("gid_map", &plan.namespaces.gids)] {
        let line = |range: &IdRange| format!("{} {} {}\n", range.container, range.host, range.size);
        let text: String = ranges.iter().map(line).collect();
        fs::write(format!("/proc/{pid}/{file}"), text).at(Step::Namespaces, file)?;
    }
    Ok(File::open(format!("/proc/{pid}/ns/user")).at(Step::Namespaces, "user")?.into())
}

/// In the child: waits for the mounts, which come when the user namespace is complete. When the parent
/// had to give up it tells its caller itself, and kills us.
pub(super) fn receive(plan: &Plan, channel: &OwnedFd) -> Result<Prepared, Failure> {
    let (packet, fds) = frame::receive(channel.as_fd(), 16).at(Step::Namespaces, "setup channel")?;
    let wanted = 1 + plan.mounts.iter().filter(|mount| comes_prepared(plan, mount)).count();
    let mut fds = fds.into_iter();
    match fds.next() {
        Some(root) if packet == b"m" && fds.len() + 1 == wanted => {
            Ok(Prepared { root, mounts: fds.collect() })
        }
        _ => Err(Failure::new(Step::Namespaces, "setup channel", "the mounts did not arrive")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_translate_through_their_range() {
        let ranges = [
            IdRange { container: 0, host: 100_000, size: 10 },
            IdRange { container: 1000, host: 200_000, size: 1 },
        ];
        let cases = [(0, 100_000), (9, 100_009), (10, 65_534), (1000, 200_000), (1001, 65_534)];
        for (id, host) in cases {
            assert_eq!(translate(&ranges, id), host, "id {id}");
        }
        assert_eq!(translate(&[], 5), 5);
    }
}
