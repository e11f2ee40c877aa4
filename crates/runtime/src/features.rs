//! What the kernel answers: which of its newer calls can be used. Tried once, when the runtime is forked, and remembered.
//!
//! By trying, not by version: distributions carry features back, and sandboxes take them away. The oldest kernel that this
//! runtime is made for is 5.10; what came later has another way, named where it is used, with what it costs.
//!
//! `WHARF_WITHOUT` names features, or `all`, that shall not be used although they are there. Tests run old ways on new
//! kernels by it, and whoever meets a kernel with a bug can go around it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};

use crate::sys;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Features {
    /// Overlay layers one by one, by name: `lowerdir+`, Linux 6.7. Else `start/overlay.rs` mounts in a process of its own.
    pub(crate) layers_by_name: bool,
    /// Overlay layers that are mounts attached nowhere, as id-mapped ones are: Linux 6.15. Else likewise.
    pub(crate) layers_by_mount: bool,
    /// Overlays that are never synced: Linux 5.10. Else the end of a container may wait for the disk.
    pub(crate) volatile: bool,
    /// mount_setattr(2), Linux 5.12. Else `start/attributes.rs` remounts; and there are no id-mapped mounts at all.
    pub(crate) mount_setattr: bool,
    /// Overlays of id-mapped layers, Linux 5.19. Else a container has no user namespace. Whether a given filesystem can
    /// do it is tried by `trial.rs`; here it is only not switched off.
    pub(crate) mapped_layers: bool,
    /// close_range(2) that marks descriptors, Linux 5.11. Else they are marked one by one.
    pub(crate) close_range: bool,
    /// `cgroup.kill`, Linux 5.14. Else processes are killed one by one. Here it is only not switched off.
    pub(crate) cgroup_kill: bool,
}

const WITHOUT: &str = "WHARF_WITHOUT";

static KNOWN: OnceLock<Features> = OnceLock::new();

/// What is known of this kernel; nothing new before [`learn`].
pub(crate) fn features() -> Features {
    KNOWN.get().copied().unwrap_or_default()
}

/// Tries everything, in a scratch directory made in `dir`. Forks inherit what was learned.
pub(crate) fn learn(dir: &Path) -> io::Result<Features> {
    if let Some(known) = KNOWN.get() {
        return Ok(*known);
    }
    let without = std::env::var(WITHOUT).unwrap_or_default();
    let learned = try_all(dir)?.without(&without)?;
    Ok(*KNOWN.get_or_init(|| learned))
}

impl Features {
    /// Each with its name, in the order of the kernels that have it.
    fn named(&mut self) -> [(&'static str, &mut bool); 7] {
        [
            ("volatile", &mut self.volatile),
            ("close-range", &mut self.close_range),
            ("mount-setattr", &mut self.mount_setattr),
            ("cgroup-kill", &mut self.cgroup_kill),
            ("mapped-layers", &mut self.mapped_layers),
            ("layers-by-name", &mut self.layers_by_name),
            ("layers-by-mount", &mut self.layers_by_mount),
        ]
    }

    /// Takes away what `names`, separated by commas, name.
    fn without(mut self, names: &str) -> io::Result<Features> {
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let mut named = self.named();
            let taken: Vec<_> =
                named.iter_mut().filter(|(known, _)| name == "all" || name == *known).collect();
            if taken.is_empty() {
                let known: Vec<&str> = named.iter().map(|(known, _)| *known).collect();
                let reason = format!("{WITHOUT} names {name:?}; known are all, {}", known.join(", "));
                return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
            }
            taken.into_iter().for_each(|(_, feature)| **feature = false);
        }
        Ok(self)
    }
}

fn try_all(dir: &Path) -> io::Result<Features> {
    let scratch = Scratch::new(dir)?;
    let layers = [scratch.directory("a")?, scratch.directory("b")?];
    let [a, b] = &layers;
    let names = layers.each_ref().map(|layer| format!("/proc/self/fd/{}", layer.as_raw_fd()));
    let together = names.join(":");
    let by_name = |fs: &OwnedFd| names.iter().try_for_each(|name| set(fs, "lowerdir+", name));
    let by_mount = |fs: &OwnedFd| {
        [a, b].into_iter().try_for_each(|layer| {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_EMPTY_PATH;
            let mount = rustix::mount::open_tree(layer, "", flags)?;
            Ok(rustix::mount::fsconfig_set_fd(fs.as_fd(), "lowerdir+", mount.as_fd())?)
        })
    };
    let volatile = |fs: &OwnedFd| {
        set(fs, "lowerdir", &together)?;
        Ok(rustix::mount::fsconfig_set_flag(fs.as_fd(), "volatile")?)
    };
    Ok(Features {
        layers_by_name: overlay_takes(by_name),
        layers_by_mount: overlay_takes(by_mount),
        volatile: overlay_takes(volatile),
        mount_setattr: sys::mount_setattr(a.as_fd(), false, sys::MountAttr::default()).is_ok(),
        mapped_layers: true,
        close_range: sys::has_close_range(),
        cgroup_kill: true,
    })
}

fn set(fs: &OwnedFd, option: &str, value: &str) -> io::Result<()> {
    Ok(rustix::mount::fsconfig_set_string(fs.as_fd(), option, value)?)
}

/// Before Linux 6.5 every option was taken, and refused only when the filesystem was made; so it is made.
fn overlay_takes(options: impl Fn(&OwnedFd) -> io::Result<()>) -> bool {
    let attempt = || -> io::Result<()> {
        let fs = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        options(&fs)?;
        rustix::mount::fsconfig_create(fs.as_fd())?;
        let attributes = MountAttrFlags::empty();
        rustix::mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        Ok(())
    };
    attempt().is_ok()
}

/// A directory that goes away again.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// No container is called like this: ids have no capitals.
    pub(crate) fn new(dir: &Path) -> io::Result<Scratch> {
        let path = dir.join(format!("Wharf-trial-{}-{}", std::process::id(), sys::unix_ms()));
        fs::create_dir(&path)?;
        Ok(Scratch(path))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn directory(&self, name: &str) -> io::Result<OwnedFd> {
        fs::create_dir(self.path(name))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::open(self.path(name), flags, Mode::empty())?)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left of an empty directory harms nobody.
        let _kept = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_taken_away() -> io::Result<()> {
        let mut all = Features::default();
        all.named().into_iter().for_each(|(_, feature)| *feature = true);
        assert_eq!(all.without("")?, all);
        assert_eq!(all.without("all")?, Features::default());
        let some = all.without("close-range, volatile")?;
        assert_eq!(some, Features { close_range: false, volatile: false, ..all });
        assert!(all.without("lowerdir").is_err_and(|error| error.to_string().contains("layers-by-name")));
        Ok(())
    }
}
