//! The kernels that virtual machines boot, as `tests/vm/kernel` has fetched them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::cpio::Initramfs;

/// What a host has that wharf is for, and what the machine itself is made of. The kernel loads most of it by itself
/// when it is first used, as on any Debian.
const MODULES: [&str; 16] = [
    "kernel/net/netfilter/",
    "kernel/net/bridge/",
    "kernel/net/ipv4/netfilter/",
    "kernel/net/ipv6/netfilter/",
    "kernel/fs/overlayfs/",
    "kernel/fs/ext4/",
    "kernel/crypto/",
    // Part of newer kernels themselves.
    "kernel/drivers/virtio/",
    "kernel/drivers/char/virtio_console.ko",
    "kernel/drivers/block/loop.ko",
    "kernel/drivers/block/virtio_blk.ko",
    "kernel/drivers/net/dummy.ko",
    "kernel/drivers/net/veth.ko",
    "kernel/drivers/net/virtio_net.ko",
    "kernel/drivers/net/vxlan/",
    "kernel/drivers/net/wireguard/",
];

/// Whose kernel a machine boots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Debian {
    /// Linux 6.1: what came later is done the older way.
    Twelve,
    #[default]
    Thirteen,
}

#[derive(Clone, Debug)]
pub struct Kernel {
    folder: PathBuf,
    /// As `uname -r` says it.
    version: String,
}

impl Kernel {
    /// Panics with what to do if it was not fetched.
    pub fn find(debian: Debian) -> Kernel {
        let name = match debian {
            Debian::Twelve => "debian12",
            Debian::Thirteen => "debian13",
        };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/vm/kernels").join(name);
        assert!(folder.join("vmlinuz").exists(), "there is no kernel of {name}: run tests/vm/kernel");
        let mut versions = fs::read_dir(folder.join("lib/modules")).expect("the kernel has modules");
        let version = versions.next().expect("the modules of a version").expect("its name").file_name();
        Kernel { folder, version: version.to_string_lossy().into_owned() }
    }

    pub fn image(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// Puts the modules there, with what they depend on and the index of modprobe.
    pub fn add_modules(&self, initramfs: &mut Initramfs) {
        let inside = format!("/lib/modules/{}", self.version);
        let host = self.folder.join("lib/modules").join(&self.version);
        for index in ["modules.dep", "modules.alias", "modules.symbols", "modules.builtin"] {
            initramfs.copy(&format!("{inside}/{index}"), &host.join(index));
        }
        let dependencies = fs::read_to_string(host.join("modules.dep")).expect("the index of modules");
        for module in with_dependencies(&dependencies) {
            initramfs.copy(&format!("{inside}/{module}"), &host.join(module));
        }
    }
}

/// The lines of modules.dep are `module: everything it needs, directly or not`.
fn with_dependencies(index: &str) -> BTreeSet<&str> {
    let lines = index.lines().filter_map(|line| line.split_once(':'));
    let wanted = lines.filter(|(module, _)| MODULES.iter().any(|prefix| module.starts_with(prefix)));
    wanted.flat_map(|(module, needs)| needs.split_whitespace().chain([module])).collect()
}
