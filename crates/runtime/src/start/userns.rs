//! Completing a user namespace from outside: its id maps, and the mounts that its root may not make itself.

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

/// In the parent: writes the maps and hands over the mounts.
pub(super) fn complete(plan: &Plan, pid: i32, channel: &OwnedFd) -> Result<(), Failure> {
    for (file, ranges) in [("uid_map", &plan.namespaces.uids), ("gid_map", &plan.namespaces.gids)] {
        let line = |range: &IdRange| format!("{} {} {}\n", range.container, range.host, range.size);
        let text: String = ranges.iter().map(line).collect();
        fs::write(format!("/proc/{pid}/{file}"), text).at(Step::Namespaces, file)?;
    }
    let userns: OwnedFd = File::open(format!("/proc/{pid}/ns/user")).at(Step::Namespaces, "user")?.into();
    let Prepared { root, mounts } = prepare::all(plan, Some(&userns))?;
    let fds: Vec<_> = [&root].into_iter().chain(&mounts).map(AsFd::as_fd).collect();
    frame::send(channel.as_fd(), b"u", &fds).at(Step::Namespaces, "hand over mounts")
}

/// In the child: waits until it is root of its namespace and receives the mounts.
pub(super) fn await_completion(plan: &Plan, channel: &OwnedFd) -> Result<Prepared, Failure> {
    let (packet, fds) = frame::receive(channel.as_fd(), 16).at(Step::Namespaces, "user")?;
    let wanted = 1 + plan.mounts.iter().filter(|mount| comes_prepared(plan, mount)).count();
    let mut fds = fds.into_iter();
    match fds.next() {
        Some(root) if packet == b"u" && fds.len() + 1 == wanted => {
            Ok(Prepared { root, mounts: fds.collect() })
        }
        _ => Err(Failure::new(Step::Namespaces, "user", "the launcher did not complete it")),
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
