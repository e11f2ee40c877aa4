//! Attributes of mounts: read-only, nosuid and so on, and that they are private.
//!
//! mount_setattr(2) changes a mount before it is attached. Before Linux 5.12 only an attached one could be changed, one at
//! a time, by remounting it; so then it is done as soon as the child has attached it, before anything else runs in there.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, OFlags, ResolveFlags, StatxFlags};
use rustix::mount::{MountFlags, MountPropagationFlags};

use crate::features::features;
use crate::sys::{self, MountAttr};

/// Changes a mount that is attached in our own namespace, or with `recursive` also those below it.
pub(super) fn change(mount: &OwnedFd, recursive: bool, attr: MountAttr) -> io::Result<()> {
    if features().mount_setattr {
        return sys::mount_setattr(mount.as_fd(), recursive, attr);
    }
    remount(mount, attr)?;
    if recursive {
        below(mount)?.iter().try_for_each(|mount| remount(mount, attr))?;
    }
    Ok(())
}

/// Completes a mount that came from the host and has just been attached. With mount_setattr it was complete before.
pub(super) fn settle(mount: &OwnedFd, recursive: bool, attr: MountAttr) -> io::Result<()> {
    if features().mount_setattr {
        return Ok(());
    }
    // What is mounted in it must not reach the host.
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change(by_number(mount), private)?;
    if attr.set == 0 && attr.clear == 0 { Ok(()) } else { change(mount, recursive, attr) }
}

/// A name of what a descriptor holds. Until the child pivots, this /proc is the host's.
fn by_number(mount: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", mount.as_raw_fd())
}

/// Remounting says all flags anew, so those that are to stay are read first.
fn remount(mount: &OwnedFd, attr: MountAttr) -> io::Result<()> {
    let old = rustix::fs::fstatvfs(mount)?.f_flag.bits();
    let kept = attributes_of(old) & !attr.clear;
    let flags = MountFlags::BIND | flags_of(kept | attr.set);
    Ok(rustix::mount::mount_remount(by_number(mount), flags, c"")?)
}

/// statvfs(3), mount_setattr(2) and mount(2) each number the same flags in their own way; three pairs differ.
const SAME: u64 =
    libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;

fn attributes_of(statvfs: u64) -> u64 {
    let times = if statvfs & libc::ST_NOATIME != 0 {
        libc::MOUNT_ATTR_NOATIME
    } else if statvfs & libc::ST_RELATIME != 0 {
        libc::MOUNT_ATTR_RELATIME
    } else {
        libc::MOUNT_ATTR_STRICTATIME
    };
    let directories = if statvfs & libc::ST_NODIRATIME != 0 { libc::MOUNT_ATTR_NODIRATIME } else { 0 };
    (statvfs & SAME) | times | directories
}

fn flags_of(attributes: u64) -> MountFlags {
    let times = match attributes & libc::MOUNT_ATTR__ATIME {
        libc::MOUNT_ATTR_NOATIME => MountFlags::NOATIME,
        libc::MOUNT_ATTR_STRICTATIME => MountFlags::STRICTATIME,
        _ => MountFlags::RELATIME,
    };
    let directories = attributes & libc::MOUNT_ATTR_NODIRATIME != 0;
    let directories = if directories { MountFlags::NODIRATIME } else { MountFlags::empty() };
    MountFlags::from_bits_retain((attributes & SAME) as u32) | times | directories
}

/// Every mount below this one that can be reached.
fn below(mount: &OwnedFd) -> io::Result<Vec<OwnedFd>> {
    let statx = rustix::fs::statx(mount, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    let names = names_below(&fs::read_to_string("/proc/self/mountinfo")?, statx.stx_mnt_id);
    let open = |name: &PathBuf| {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        Ok(rustix::fs::openat2(mount, name, flags, rustix::fs::Mode::empty(), resolve)?)
    };
    names.iter().map(open).collect()
}

/// Where the mounts below `top` are, seen from it. Source of the format: proc_pid_mountinfo(5).
fn names_below(mountinfo: &str, top: u64) -> Vec<PathBuf> {
    let mounts: Vec<(u64, u64, String)> = mountinfo
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (id, parent) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            Some((id, parent, unescape(fields.nth(2)?)))
        })
        .collect();
    let Some((.., place)) = mounts.iter().find(|(id, ..)| *id == top) else { return Vec::new() };
    let mut found = vec![top];
    let mut names = Vec::new();
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        for (id, _, name) in mounts.iter().filter(|(id, above, _)| *above == parent && *id != parent) {
            found.push(*id);
            names.extend(Path::new(name).strip_prefix(place).ok().map(Path::to_owned));
        }
    }
    names
}

/// Blanks and the like are written as a backslash and three octal digits.
fn unescape(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                text.push(byte);
                text.extend_from_slice(&part.as_bytes()[3..]);
            }
            None => text.extend_from_slice(part.as_bytes()),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_stays_set() {
        let old = libc::ST_NOSUID | libc::ST_RELATIME;
        assert_eq!(flags_of(attributes_of(old)), MountFlags::NOSUID | MountFlags::RELATIME);
        let old = libc::ST_RDONLY | libc::ST_NOATIME | libc::ST_NODIRATIME;
        let expected = MountFlags::RDONLY | MountFlags::NOATIME | MountFlags::NODIRATIME;
        assert_eq!(flags_of(attributes_of(old)), expected);
        assert_eq!(flags_of(attributes_of(0)), MountFlags::STRICTATIME);
    }

    #[test]
    fn mounts_are_found_below_others_only() {
        let info = "10 1 0:1 / / rw - ext4 a rw\n20 10 0:2 / /data rw - ext4 b rw\n21 20 0:3 / /data/a\\040b rw - ext4 c rw\n\
                    22 21 0:4 / /data/a\\040b/c rw - ext4 d rw\n30 10 0:5 / /other rw - ext4 e rw\n";
        assert_eq!(names_below(info, 20), [Path::new("a b"), Path::new("a b/c")]);
        assert!(names_below(info, 30).is_empty());
        assert!(names_below(info, 99).is_empty());
    }
}
