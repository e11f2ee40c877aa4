//! Mounting an overlay, with what this kernel has.
//!
//! Newer kernels take the layers one by one and make a mount that is attached nowhere. Older ones take one text of at most
//! a page, in which sixty layers fit only under short names, and only mount(2) takes one that long (fsconfig(2) ends at
//! 256 bytes); and they want id-mapped layers attached somewhere. So a process of its own does it, in a mount namespace
//! that nobody else sees and that ends with it: from `/proc/self/fd`, where a layer's name is the number of its descriptor.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags,
};
use rustix::process::WaitOptions;

use crate::failure::{At, Failure, Step};
use crate::features::features;
use crate::{frame, sys};

/// A layer as the overlay is told about it.
pub(super) enum Layer {
    Path(PathBuf),
    /// Below an id-mapped mount that has no path.
    Mapped(OwnedFd),
}

pub(super) struct Layers {
    /// Top first.
    pub(super) lowers: Vec<Layer>,
    pub(super) upper: Layer,
    pub(super) work: Layer,
    /// The id-mapped tree of upper and work; with it, every layer is `Mapped`.
    pub(super) tree: Option<OwnedFd>,
}

/// `upper` and `work` are where they are on the host.
pub(super) fn mount(layers: &Layers, upper: &Path, work: &Path) -> Result<OwnedFd, Failure> {
    forget_volatile(work).at(Step::Rootfs, work.display())?;
    let known = features();
    let one_by_one = if layers.tree.is_some() { known.layers_by_mount } else { known.layers_by_name };
    let subject = format_args!("overlay of {} layers with work {}", layers.lowers.len(), work.display());
    if one_by_one {
        by_parameters(layers, known.volatile, &subject)
    } else {
        by_options(layers, known.volatile, upper).map_err(|error| Failure::of(Step::Rootfs, subject, &error))
    }
}

fn by_parameters(
    layers: &Layers,
    volatile: bool,
    subject: &std::fmt::Arguments<'_>,
) -> Result<OwnedFd, Failure> {
    let fs = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).at(Step::Rootfs, "overlay")?;
    for lower in &layers.lowers {
        add(&fs, "lowerdir+", lower)?;
    }
    add(&fs, "upperdir", &layers.upper)?;
    add(&fs, "workdir", &layers.work)?;
    let create = || -> io::Result<OwnedFd> {
        if volatile {
            // What a container writes outside its volumes is scratch and ends with it: syncing it would only cost time.
            rustix::mount::fsconfig_set_flag(fs.as_fd(), "volatile")?;
        }
        rustix::mount::fsconfig_create(fs.as_fd())?;
        Ok(rustix::mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
    };
    create().at(Step::Rootfs, subject)
}

/// The longest text that fsconfig(2) takes, with its null.
const FSCONFIG_BYTES: usize = 256;

fn add(fs: &OwnedFd, option: &str, layer: &Layer) -> Result<(), Failure> {
    match layer {
        Layer::Path(path) => {
            let subject = format_args!("overlay {option} {}", path.display());
            if path.as_os_str().len() < FSCONFIG_BYTES {
                return rustix::mount::fsconfig_set_string(fs.as_fd(), option, path)
                    .at(Step::Rootfs, subject);
            }
            let opened = open(path).at(Step::Rootfs, subject)?;
            let name = format!("/proc/self/fd/{}", opened.as_raw_fd());
            rustix::mount::fsconfig_set_string(fs.as_fd(), option, name).at(Step::Rootfs, subject)
        }
        Layer::Mapped(fd) => rustix::mount::fsconfig_set_fd(fs.as_fd(), option, fd.as_fd())
            .at(Step::Rootfs, format_args!("overlay {option} of an id-mapped layer")),
    }
}

/// The old way; see the head of this file.
fn by_options(layers: &Layers, volatile: bool, target: &Path) -> io::Result<OwnedFd> {
    let (ours, theirs) = frame::packet_pair()?;
    let Some(helper) = sys::fork()? else {
        drop(ours);
        // An error travels as its number. Should the parent be gone, nobody needs either.
        let _unheard = match in_own_namespace(layers, volatile, target) {
            Ok(mount) => frame::send(theirs.as_fd(), &0i32.to_le_bytes(), &[mount.as_fd()]),
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::E2BIG);
                frame::send(theirs.as_fd(), &errno.to_le_bytes(), &[])
            }
        };
        sys::exit_now(0)
    };
    drop(theirs);
    let received = frame::receive(ours.as_fd(), 16);
    // It has said all it had to say, or died.
    let _reaped = rustix::process::waitpid(Some(helper), WaitOptions::empty());
    let (packet, fds) = received?;
    match (fds.into_iter().next(), <[u8; 4]>::try_from(packet.as_slice())) {
        (Some(mount), _) => Ok(mount),
        (None, Ok(errno)) => Err(io::Error::from_raw_os_error(i32::from_le_bytes(errno))),
        (None, Err(_)) => Err(io::Error::other("the process that mounts it died")),
    }
}

fn in_own_namespace(layers: &Layers, volatile: bool, target: &Path) -> io::Result<OwnedFd> {
    // SAFETY: changes only this process, which has a single thread.
    sys::check(libc::c_long::from(unsafe { libc::unshare(libc::CLONE_NEWNS) }))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private)?;
    if let Some(tree) = &layers.tree {
        // An id-mapped layer is the root of its mount, upper and work are in one; over `/` none is in anybody's way.
        for mount in layers.lowers.iter().filter_map(mapped).chain([tree]) {
            let from = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            rustix::mount::move_mount(mount, "", rustix::fs::CWD, "/", from)?;
        }
    }
    let mut opened = Vec::new();
    let lowers = layers.lowers.iter().map(|layer| name(layer, &mut opened));
    let lowers = lowers.collect::<io::Result<Vec<String>>>()?.join(":");
    let (upper, work) = (name(&layers.upper, &mut opened)?, name(&layers.work, &mut opened)?);
    let volatile = if volatile { ",volatile" } else { "" };
    let options = CString::new(format!("lowerdir={lowers},upperdir={upper},workdir={work}{volatile}"))?;
    rustix::process::chdir("/proc/self/fd")?;
    rustix::mount::mount("overlay", target, "overlay", MountFlags::empty(), options.as_c_str())?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(rustix::mount::open_tree(rustix::fs::CWD, target, flags)?)
}

fn mapped(layer: &Layer) -> Option<&OwnedFd> {
    match layer {
        Layer::Mapped(mount) => Some(mount),
        Layer::Path(_) => None,
    }
}

/// A layer's name below `/proc/self/fd`; what had to be opened for it goes to `opened`, and has to stay open.
fn name(layer: &Layer, opened: &mut Vec<OwnedFd>) -> io::Result<String> {
    match layer {
        Layer::Mapped(mount) => Ok(mount.as_raw_fd().to_string()),
        Layer::Path(path) => {
            let layer = open(path)?;
            let name = layer.as_raw_fd().to_string();
            opened.push(layer);
            Ok(name)
        }
    }
}

fn open(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// The kernel marks a volatile overlay as used and refuses it a second time, because after a crash of the host its
/// upper directory may be incomplete. A restart in place has had no such crash: the caller makes upper directories
/// afresh after a boot.
fn forget_volatile(work: &Path) -> io::Result<()> {
    let mark = work.join(OsStr::new("work/incompat/volatile"));
    match rustix::fs::unlinkat(rustix::fs::CWD, &mark, AtFlags::REMOVEDIR) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
