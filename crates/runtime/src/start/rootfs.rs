//! The root filesystem, as a mount that is attached nowhere yet.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::prepare::detached;
use crate::Rootfs;
use crate::failure::{At, Failure, Step};
use crate::sys::MountAttr;

/// `owner` is what root of the user namespace is on the host, if there is such a namespace.
pub(super) fn mount(
    rootfs: &Rootfs,
    userns: Option<&OwnedFd>,
    owner: (u32, u32),
) -> Result<OwnedFd, Failure> {
    match rootfs {
        Rootfs::Dir(path) => {
            detached(path, false, MountAttr::default(), userns).at(Step::Rootfs, path.display())
        }
        Rootfs::Overlay { lowers, upper, work } => {
            if lowers.is_empty() {
                return Err(Failure::new(
                    Step::Rootfs,
                    upper.display(),
                    "an overlay needs at least one lower directory",
                ));
            }
            let layers = Layers::find(lowers, upper, work, userns)?;
            match userns {
                None => overlay(&layers, work),
                Some(_) => acting_as(owner, || overlay(&layers, work)),
            }
        }
    }
}

/// A layer as the overlay is told about it.
enum Layer {
    Path(PathBuf),
    /// Below an id-mapped mount that has no path.
    Mapped(OwnedFd),
}

struct Layers {
    /// Top first.
    lowers: Vec<Layer>,
    upper: Layer,
    work: Layer,
    /// Keeps the id-mapped tree of upper and work alive until the overlay holds it.
    _tree: Option<OwnedFd>,
}

impl Layers {
    fn find(
        lowers: &[PathBuf],
        upper: &Path,
        work: &Path,
        userns: Option<&OwnedFd>,
    ) -> Result<Layers, Failure> {
        if userns.is_none() {
            let lowers = lowers.iter().cloned().map(Layer::Path).collect();
            return Ok(Layers {
                lowers,
                upper: Layer::Path(upper.into()),
                work: Layer::Path(work.into()),
                _tree: None,
            });
        }
        let mapped = |path: &Path| {
            detached(path, false, MountAttr::default(), userns).at(Step::Rootfs, path.display())
        };
        let lowers: Result<_, _> = lowers.iter().map(|path| mapped(path).map(Layer::Mapped)).collect();
        // The overlay wants upper and work in one mount, so the tree that holds both is mapped as one.
        let parent = common_parent(upper, work).ok_or_else(|| {
            Failure::new(Step::Rootfs, upper.display(), "upper and work need a common parent directory")
        })?;
        let tree = mapped(parent)?;
        let inside = |path: &Path| {
            let relative = path.strip_prefix(parent).unwrap_or(path);
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(&tree, relative, flags, Mode::empty())
                .at(Step::Rootfs, path.display())
                .map(Layer::Mapped)
        };
        Ok(Layers { lowers: lowers?, upper: inside(upper)?, work: inside(work)?, _tree: Some(tree) })
    }
}

fn common_parent<'a>(upper: &'a Path, work: &Path) -> Option<&'a Path> {
    upper
        .ancestors()
        .skip(1)
        .find(|parent| work.starts_with(parent))
        .filter(|parent| parent.parent().is_some())
}

fn overlay(layers: &Layers, work: &Path) -> Result<OwnedFd, Failure> {
    forget_volatile(work).at(Step::Rootfs, work.display())?;
    let fs = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).at(Step::Rootfs, "overlay")?;
    for lower in &layers.lowers {
        add(fs.as_fd(), "lowerdir+", lower)?;
    }
    add(fs.as_fd(), "upperdir", &layers.upper)?;
    add(fs.as_fd(), "workdir", &layers.work)?;
    // What a container writes outside its volumes is scratch and ends with it: syncing it would only cost time.
    rustix::mount::fsconfig_set_flag(fs.as_fd(), "volatile").at(Step::Rootfs, "overlay option volatile")?;
    let create = || -> io::Result<OwnedFd> {
        rustix::mount::fsconfig_create(fs.as_fd())?;
        Ok(rustix::mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
    };
    create().at(
        Step::Rootfs,
        format_args!("overlay of {} layers with work {}", layers.lowers.len(), work.display()),
    )
}

/// Whoever mounts an overlay is the one in whose name it writes to its upper directory, for ever. Our own root has no
/// name in an id-mapped mount, so this is done in the name of the container's root, with all our rights.
fn acting_as<T>(owner: (u32, u32), act: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let change = |(uid, gid): (u32, u32)| -> io::Result<()> {
        // SAFETY: changes only this process, which has a single thread. Both calls return the previous id, never an error.
        unsafe {
            libc::setfsgid(gid);
            libc::setfsuid(uid);
        }
        // Becoming somebody else has taken the rights over files away; they are still permitted.
        let held = rustix::thread::capabilities(None)?;
        let all = rustix::thread::CapabilitySets { effective: held.permitted, ..held };
        Ok(rustix::thread::set_capabilities(None, all)?)
    };
    change(owner).at(Step::Rootfs, "act as the container's root")?;
    let outcome = act();
    change((0, 0)).at(Step::Rootfs, "act as root again")?;
    outcome
}

fn add(fs: rustix::fd::BorrowedFd<'_>, option: &str, layer: &Layer) -> Result<(), Failure> {
    match layer {
        Layer::Path(path) => rustix::mount::fsconfig_set_string(fs, option, path)
            .at(Step::Rootfs, format_args!("overlay {option} {}", path.display())),
        Layer::Mapped(fd) => rustix::mount::fsconfig_set_fd(fs, option, fd.as_fd())
            .at(Step::Rootfs, format_args!("overlay {option} of an id-mapped layer (needs Linux 6.13)")),
    }
}

/// The kernel marks a volatile overlay as used and refuses it a second time, because after a crash of the host its
/// upper directory may be incomplete. A restart in place has had no such crash: the caller makes upper directories
/// afresh after a boot.
fn forget_volatile(work: &Path) -> io::Result<()> {
    let mark = work.join(OsStr::new("work/incompat/volatile"));
    match rustix::fs::unlinkat(rustix::fs::CWD, &mark, rustix::fs::AtFlags::REMOVEDIR) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_and_work_share_a_parent_below_the_root() {
        let parent =
            |upper, work| common_parent(Path::new(upper), Path::new(work)).map(|path| path.to_owned());
        assert_eq!(parent("/a/b/upper", "/a/b/work"), Some(PathBuf::from("/a/b")));
        assert_eq!(parent("/a/b/upper", "/a/c/work"), Some(PathBuf::from("/a")));
        assert_eq!(parent("/a/upper", "/b/work"), None);
    }
}
