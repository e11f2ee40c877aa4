//! The directory that a layer is unpacked into, and the only ways to reach into it.
//!
//! Invariant: every path is resolved by `openat2` with RESOLVE_IN_ROOT below the layer's directory, so a symbolic
//! link, absolute or full of `..`, can only lead to places inside; the last component is never followed. No path
//! string is ever joined and handed to the kernel from the outside.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, ResolveFlags, XattrFlags};
use rustix::io::Errno;

use super::Refusal;
use super::entry_path::EntryPath;

#[derive(Debug)]
pub(super) enum Failure {
    Refused(Refusal),
    System { doing: &'static str, errno: Errno },
}

impl From<(&'static str, Errno)> for Failure {
    fn from((doing, errno): (&'static str, Errno)) -> Failure {
        Failure::System { doing, errno }
    }
}

/// Attaches what was being done to a failed system call.
pub(super) trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, (&'static str, Errno)>;
}

impl<T> Doing<T> for Result<T, Errno> {
    fn doing(self, doing: &'static str) -> Result<T, (&'static str, Errno)> {
        self.map_err(|errno| (doing, errno))
    }
}

/// A name in an open directory of the layer.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) dir: Rc<OwnedFd>,
    pub(super) name: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Tree {
    root: Rc<OwnedFd>,
    replaced: OwnedFd,
    replaced_count: u64,
    /// The last parent: archives list the files of a directory one after the other. Forgotten whenever something is
    /// replaced, because only then can a path change its meaning.
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
}

impl Tree {
    pub(super) fn new(root: OwnedFd, replaced: OwnedFd) -> Tree {
        Tree { root: Rc::new(root), replaced, replaced_count: 0, last: None }
    }

    pub(super) fn root(&self) -> Result<Rc<OwnedFd>, Failure> {
        Ok(Rc::clone(&self.root))
    }

    /// Where an entry goes; directories on the way that the archive left out are made (root's, 0755).
    pub(super) fn place(&mut self, path: &EntryPath) -> Result<Place, Failure> {
        let dir = self.parent(path)?;
        Ok(Place { dir, name: path.split().1.to_vec() })
    }

    pub(super) fn parent(&mut self, path: &EntryPath) -> Result<Rc<OwnedFd>, Failure> {
        let (parent, _) = path.split();
        if parent.is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        if let Some((last, dir)) = &self.last
            && last == parent
        {
            return Ok(Rc::clone(dir));
        }
        let dir = match self.resolve(parent) {
            Ok(dir) => Rc::new(dir),
            Err(_) => self.make_parents(parent)?,
        };
        self.last = Some((parent.to_vec(), Rc::clone(&dir)));
        Ok(dir)
    }

    /// Opens a directory by its path if it is one; the last component may not be a link.
    pub(super) fn existing_directory(&self, path: &[u8]) -> Result<Option<OwnedFd>, Failure> {
        match self.open_below(path, OFlags::DIRECTORY | OFlags::NOFOLLOW) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(("open a directory", errno).into()),
        }
    }

    fn resolve(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        self.open_below(path, OFlags::DIRECTORY)
    }

    fn open_below(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        open_in_root(&*self.root, path, flags)
    }

    fn make_parents(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, Failure> {
        let mut dir = Rc::clone(&self.root);
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(i, _)| i);
        let mut start = 0;
        for end in ends.chain([path.len()]) {
            let (prefix, name) = (&path[..end], &path[start..end]);
            start = end + 1;
            dir = Rc::new(match self.resolve(prefix) {
                Ok(found) => found,
                Err(Errno::NOENT | Errno::NOTDIR) => self.make_parent(&dir, name, prefix)?,
                Err(Errno::LOOP) => return Err(not_a_directory(prefix)),
                Err(errno) => return Err(("open a directory on its way", errno).into()),
            });
        }
        Ok(dir)
    }

    /// Makes one missing directory; a whiteout there gives way to an opaque directory, which hides as much.
    fn make_parent(&mut self, dir: &Rc<OwnedFd>, name: &[u8], prefix: &[u8]) -> Result<OwnedFd, Failure> {
        let hidden = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => false,
            Ok(stat) if is_whiteout(&stat) => true,
            // A file, or a link that leads nowhere.
            Ok(_) => return Err(not_a_directory(prefix)),
            Err(errno) => return Err(("look at a directory on its way", errno).into()),
        };
        let place = Place { dir: Rc::clone(dir), name: name.to_vec() };
        if hidden {
            self.clear(&place)?;
        }
        let made = make_directory(&place)?;
        rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))
            .doing("set the mode of a directory on its way")?;
        if hidden {
            set_opaque(&made)?;
        }
        Ok(made)
    }

    /// Gets whatever is at a place out of the way.
    pub(super) fn clear(&mut self, place: &Place) -> Result<(), Failure> {
        match rustix::fs::unlinkat(&place.dir, place.name.as_slice(), AtFlags::empty()) {
            Err(Errno::NOENT) => return Ok(()),
            Ok(()) => {}
            Err(Errno::ISDIR) => {
                let aside = self.replaced_count.to_string();
                self.replaced_count += 1;
                rustix::fs::renameat(&place.dir, place.name.as_slice(), &self.replaced, aside.as_str())
                    .doing("replace a directory")?;
            }
            Err(errno) => return Err(("replace what was there", errno).into()),
        }
        self.last = None;
        Ok(())
    }

    /// A directory at a place, new or already there; what else was there gives way.
    pub(super) fn directory(&mut self, place: &Place) -> Result<OwnedFd, Failure> {
        let was = rustix::fs::statat(&place.dir, place.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW);
        let opaque = match was {
            Err(Errno::NOENT) => false,
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                return open_directory(place).map_err(Failure::from);
            }
            Ok(stat) => {
                self.clear(place)?;
                is_whiteout(&stat)
            }
            Err(errno) => return Err(("look at what was there", errno).into()),
        };
        let made = make_directory(place)?;
        if opaque {
            set_opaque(&made)?;
        }
        Ok(made)
    }

    /// Hides what lower layers have under this name, and keeps what this layer has there.
    pub(super) fn whiteout(&mut self, place: &Place) -> Result<(), Failure> {
        let name = place.name.as_slice();
        match rustix::fs::statat(&place.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {
                rustix::fs::mknodat(&place.dir, name, FileType::CharacterDevice, Mode::empty(), 0)
                    .doing("make a whiteout")?;
                Ok(())
            }
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                set_opaque(&open_directory(place)?)
            }
            Ok(_) => Ok(()),
            Err(errno) => Err(("look at what was there", errno).into()),
        }
    }

    pub(super) fn hard_link(&mut self, place: &Place, target: &EntryPath) -> Result<(), Failure> {
        let (parent, name) = target.split();
        let missing = || Failure::Refused(Refusal::LinkTargetMissing(target.to_string()));
        let dir = match parent {
            b"" => Rc::clone(&self.root),
            parent => match self.resolve(parent) {
                Ok(dir) => Rc::new(dir),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(missing()),
                Err(errno) => return Err(("open the directory of a link's target", errno).into()),
            },
        };
        let stat = match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Err(missing()),
            Err(errno) => return Err(("look at a link's target", errno).into()),
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(Failure::Refused(Refusal::LinkToDirectory(target.to_string())));
        }
        if is_whiteout(&stat) {
            return Err(missing());
        }
        // A link to itself would first be removed.
        let here = rustix::fs::statat(&place.dir, place.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW);
        if here.is_ok_and(|here| (here.st_dev, here.st_ino) == (stat.st_dev, stat.st_ino)) {
            return Ok(());
        }
        self.clear(place)?;
        rustix::fs::linkat(&dir, name, &place.dir, place.name.as_slice(), AtFlags::empty())
            .doing("make a hard link")?;
        Ok(())
    }
}

/// Opens below `root` as if it were the root of the file system. The kernel gives up with EAGAIN when a `..` races
/// with any rename or mount on the host, so a busy node needs a few attempts.
pub(crate) fn open_in_root(root: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    const ATTEMPTS: u32 = 1000;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let mut outcome = Err(Errno::AGAIN);
    for _ in 0..ATTEMPTS {
        outcome = rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
        if !matches!(outcome, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
    }
    outcome
}

fn make_directory(place: &Place) -> Result<OwnedFd, (&'static str, Errno)> {
    rustix::fs::mkdirat(&place.dir, place.name.as_slice(), Mode::from_raw_mode(0o755))
        .doing("make a directory")?;
    open_directory(place)
}

fn open_directory(place: &Place) -> Result<OwnedFd, (&'static str, Errno)> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&place.dir, place.name.as_slice(), flags, Mode::empty()).doing("open a directory")
}

fn not_a_directory(prefix: &[u8]) -> Failure {
    Failure::Refused(Refusal::ParentNotADirectory(String::from_utf8_lossy(prefix).into_owned()))
}

pub(super) fn set_opaque(dir: impl AsFd) -> Result<(), Failure> {
    rustix::fs::fsetxattr(dir, OPAQUE_XATTR, b"y", XattrFlags::empty()).doing("mark a directory opaque")?;
    Ok(())
}

/// What overlayfs reads on a directory that hides everything below it.
pub(crate) const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

pub(crate) fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Moves a finished directory to its final name, which must be free.
pub(crate) fn rename_new(from: &std::path::Path, to: &std::path::Path) -> Result<(), Errno> {
    rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)
}
