//! Writes single entries: content and links, then owner, mode, attributes and times, in the order the kernel needs.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::entry_path::EntryPath;
use super::tree::{Doing, Place};
use super::{Refusal, UnpackError, Unpacker};
use crate::tarball::{Member, Members};

type Step<T> = Result<T, (&'static str, Errno)>;

impl Unpacker {
    pub(super) fn file(
        &mut self,
        place: &Place,
        member: &Member,
        members: &mut Members<impl Read>,
    ) -> Result<(), UnpackError> {
        self.tree.clear(place).map_err(|error| self.failed(error))?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&place.dir, place.name.as_slice(), flags, Mode::from_raw_mode(0o600));
        let file = std::fs::File::from(made.doing("make a file").map_err(|error| self.failed(error.into()))?);
        let mut end = 0;
        // The map of a file that ends in a hole ends in an empty extent, which writes nothing.
        for extent in member.extents.iter().filter(|extent| extent.length > 0) {
            end = self.extent(&file, extent.offset, extent.length, members)?;
        }
        if end < member.size {
            let sized = rustix::fs::ftruncate(&file, member.size).doing("set the size of a sparse file");
            sized.map_err(|error| self.failed(error.into()))?;
        }
        self.metadata(&file, member)?;
        set_times(&file, member.mtime_s, member.mtime_ns).map_err(|error| self.failed(error.into()))
    }

    /// Copies one run of stored bytes to its offset and returns where it ended.
    fn extent(
        &mut self,
        file: &std::fs::File,
        offset: u64,
        length: u64,
        members: &mut Members<impl Read>,
    ) -> Result<u64, UnpackError> {
        let end = offset + length;
        let mut at = offset;
        while at < end {
            let want = self.buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
            let n = members.read_stored(&mut self.buffer[..want]).map_err(|error| self.stream(error))?;
            let written = file.write_all_at(&self.buffer[..n], at);
            written.map_err(|source| UnpackError::Write {
                path: self.path(),
                doing: "write a file",
                source,
            })?;
            at += n as u64;
        }
        Ok(end)
    }

    pub(super) fn directory(
        &mut self,
        place: &Place,
        member: &Member,
        path: &EntryPath,
    ) -> Result<(), UnpackError> {
        let dir = self.tree.directory(place).map_err(|error| self.failed(error))?;
        self.directory_metadata(&dir, member, path)
    }

    pub(super) fn directory_metadata(
        &mut self,
        dir: &impl AsFd,
        member: &Member,
        path: &EntryPath,
    ) -> Result<(), UnpackError> {
        self.metadata(dir, member)?;
        self.charge_path(path)?;
        self.directories.insert(path.bytes().to_vec(), (member.mtime_s, member.mtime_ns));
        Ok(())
    }

    pub(super) fn symlink(&mut self, place: &Place, member: &Member) -> Result<(), UnpackError> {
        if member.link.is_empty() {
            return Err(self.refused(Refusal::EmptyLink));
        }
        if member.link.contains(&0) {
            return Err(self.refused(Refusal::ZeroByte));
        }
        self.tree.clear(place).map_err(|error| self.failed(error))?;
        // The target is only text here; whoever follows it does so inside the container or through openat2.
        let made = rustix::fs::symlinkat(member.link.as_slice(), &place.dir, place.name.as_slice());
        made.doing("make a symbolic link").map_err(|error| self.failed(error.into()))?;
        // No attribute that is kept can sit on a symbolic link.
        self.drop_xattrs(member);
        self.named_metadata(place, member, None)
    }

    pub(super) fn fifo(&mut self, place: &Place, member: &Member) -> Result<(), UnpackError> {
        self.tree.clear(place).map_err(|error| self.failed(error))?;
        let mode = Mode::from_raw_mode(member.mode);
        let made = rustix::fs::mknodat(&place.dir, place.name.as_slice(), FileType::Fifo, mode, 0);
        made.doing("make a fifo").map_err(|error| self.failed(error.into()))?;
        self.drop_xattrs(member);
        self.named_metadata(place, member, Some(mode))
    }

    /// For entries that cannot be opened. Nobody else is in this directory, so the name still means what was made.
    fn named_metadata(&self, place: &Place, member: &Member, mode: Option<Mode>) -> Result<(), UnpackError> {
        let (uid, gid) = self.owner(member)?;
        let name = place.name.as_slice();
        let all = || -> Step<()> {
            rustix::fs::chownat(&place.dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .doing("set the owner")?;
            if let Some(mode) = mode {
                rustix::fs::chmodat(&place.dir, name, mode, AtFlags::empty()).doing("set the mode")?;
            }
            let times = timestamps(member.mtime_s, member.mtime_ns);
            rustix::fs::utimensat(&place.dir, name, &times, AtFlags::SYMLINK_NOFOLLOW).doing("set the time")
        };
        all().map_err(|error| self.failed(error.into()))
    }

    /// Owner before mode and attributes: a change of owner clears setuid bits and file capabilities.
    fn metadata(&mut self, file: &impl AsFd, member: &Member) -> Result<(), UnpackError> {
        let (uid, gid) = self.owner(member)?;
        let owned = rustix::fs::fchown(file, Some(uid), Some(gid)).doing("set the owner");
        owned.map_err(|error| self.failed(error.into()))?;
        let mode = rustix::fs::fchmod(file, Mode::from_raw_mode(member.mode)).doing("set the mode");
        mode.map_err(|error| self.failed(error.into()))?;
        for (name, value) in &member.xattrs {
            if !is_kept(name) {
                self.dropped.xattr(name);
                continue;
            }
            let set = rustix::fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty());
            set.doing("set an extended attribute").map_err(|error| self.failed(error.into()))?;
        }
        Ok(())
    }

    fn drop_xattrs(&mut self, member: &Member) {
        member.xattrs.iter().for_each(|(name, _)| self.dropped.xattr(name));
    }

    fn owner(&self, member: &Member) -> Result<(Uid, Gid), UnpackError> {
        // All ones means "leave as it is" to chown, and is nobody's number.
        let number = |id: u64| match u32::try_from(id) {
            Ok(id) if id != u32::MAX => Ok(id),
            _ => Err(self.refused(Refusal::BadOwner(id))),
        };
        Ok((Uid::from_raw(number(member.uid)?), Gid::from_raw(number(member.gid)?)))
    }
}

/// `user.overlay.*` is what overlayfs itself reads when mounted with `userxattr`.
fn is_kept(name: &[u8]) -> bool {
    let user = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.") && !name.contains(&0);
    user || name == b"security.capability"
}

pub(super) fn set_times(file: &impl AsFd, seconds: i64, nanos: u32) -> Step<()> {
    rustix::fs::futimens(file, &timestamps(seconds, nanos)).doing("set the time")
}

fn timestamps(seconds: i64, nanos: u32) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanos) };
    Timestamps { last_access: time, last_modification: time }
}
