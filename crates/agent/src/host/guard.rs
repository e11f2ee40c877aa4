//! Keeps wharf's own folders out of containers: whoever has the ledger, the images or the socket has the node.
//!
//! A host path is refused where it is inside of such a folder or above it. Both are looked at as the file systems know them,
//! device and path below its root, so that neither a symbolic link nor a bind mount is a way around.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use model::{Mount, Name, ReplicaTemplate};

use super::Host;
use crate::config::{Config, ServerAddress};

const MOUNTS: &str = "/proc/self/mountinfo";

#[derive(Debug, thiserror::Error)]
pub(super) enum GuardError {
    #[error(
        "container {container}: the host path {} reaches wharf's own {}, with which a container could take over the \
         node; mount a folder beside it",
        path.display(), own.display()
    )]
    Own { container: Name, path: PathBuf, own: PathBuf },
    #[error("cannot find out what is below the host paths")]
    Unreadable { source: io::Error },
}

impl Host {
    pub(super) fn guard_host_paths(&self, template: &ReplicaTemplate) -> Result<(), GuardError> {
        let asked = template.containers().flat_map(|container| {
            container.mounts.iter().filter_map(|mount| match mount {
                Mount::HostPath { source, .. } => Some((&container.name, Path::new(source))),
                Mount::Tmpfs { .. } => None,
            })
        });
        let mut asked = asked.peekable();
        if asked.peek().is_none() {
            return Ok(());
        }
        let unreadable = |source| GuardError::Unreadable { source };
        let table = MountTable::parse(&fs::read_to_string(MOUNTS).map_err(unreadable)?);
        for (container, path) in asked {
            // Where nothing is, the start says so.
            let Some(real) = real_path(path).map_err(unreadable)? else { continue };
            for own in own_paths(&self.config) {
                let Some(real_own) = real_path(own).map_err(unreadable)? else { continue };
                if table.meet(&real, &real_own) {
                    let (container, path) = (container.clone(), path.to_owned());
                    return Err(GuardError::Own { container, path, own: own.to_owned() });
                }
            }
        }
        Ok(())
    }
}

fn own_paths(config: &Config) -> impl Iterator<Item = &Path> {
    let socket = match &config.server {
        ServerAddress::Unix(socket) => Some(socket),
        ServerAddress::Joined => None,
    };
    [&config.data_dir, &config.run_dir].into_iter().chain(socket).map(PathBuf::as_path)
}

/// Without links; none if there is nothing.
fn real_path(path: &Path) -> io::Result<Option<PathBuf>> {
    match fs::canonicalize(path) {
        Ok(path) => Ok(Some(path)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// What is mounted, in the order in which it was: of several at one place, the last is seen.
#[derive(Debug)]
struct MountTable(Vec<Mounted>);

#[derive(Debug)]
struct Mounted {
    device: String,
    /// Which folder of the device's file system is mounted.
    root: PathBuf,
    at: PathBuf,
}

/// A folder and all below it, wherever it is mounted.
#[derive(Debug)]
struct Place<'a> {
    device: &'a str,
    path: PathBuf,
}

impl MountTable {
    /// `36 35 98:0 /root /at options optional... - type source options`. Source: proc_pid_mountinfo(5).
    fn parse(text: &str) -> MountTable {
        let mounted = |line: &str| {
            let mut fields = line.split(' ').skip(2);
            let device = fields.next()?.to_owned();
            Some(Mounted { device, root: unescape(fields.next()?), at: unescape(fields.next()?) })
        };
        MountTable(text.lines().filter_map(mounted).collect())
    }

    /// Whether something of the one is to be seen in the other, with all that is mounted below them.
    fn meet(&self, one: &Path, other: &Path) -> bool {
        let others = self.places(other);
        self.places(one).iter().any(|place| others.iter().any(|other| place.overlaps(other)))
    }

    /// The part of a file system that `path` is, and every one that is mounted below it.
    fn places(&self, path: &Path) -> Vec<Place<'_>> {
        let holder = self.0.iter().rev().filter(|mounted| path.starts_with(&mounted.at));
        // The first of the longest, which is the one mounted last.
        let holder =
            holder.reduce(
                |best, next| {
                    if next.at.as_os_str().len() > best.at.as_os_str().len() { next } else { best }
                },
            );
        let own = holder.and_then(|mounted| {
            let path = mounted.root.join(path.strip_prefix(&mounted.at).ok()?);
            Some(Place { device: &mounted.device, path })
        });
        let below = self.0.iter().filter(|mounted| mounted.at.starts_with(path));
        let below = below.map(|mounted| Place { device: &mounted.device, path: mounted.root.clone() });
        own.into_iter().chain(below).collect()
    }
}

impl Place<'_> {
    fn overlaps(&self, other: &Place<'_>) -> bool {
        self.device == other.device
            && (self.path.starts_with(&other.path) || other.path.starts_with(&self.path))
    }
}

/// Blanks, tabs, newlines and backslashes are written as a backslash and three octal digits.
fn unescape(field: &str) -> PathBuf {
    let mut text = field.to_owned();
    for (written, meant) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        text = text.replace(written, meant);
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
23 22 0:20 / /run rw shared:5 - tmpfs tmpfs rw
24 22 8:1 /var/lib/wharf/images /mnt/images rw - ext4 /dev/sda1 rw
25 22 8:1 /var /srv/all\\040of\\040var rw - ext4 /dev/sda1 rw
26 22 8:2 / /data rw - ext4 /dev/sdb1 rw
27 23 0:4 net:[4026532001] /run/wharf/netns/1 rw - nsfs nsfs rw
28 22 8:2 /lib /data/lib rw - ext4 /dev/sdb1 rw
29 22 0:30 / /data/lib/cache rw - tmpfs tmpfs rw
";

    #[test]
    fn own_folders_are_found_however_they_are_reached() {
        let table = MountTable::parse(TABLE);
        for (path, meets) in [
            ("/var/lib/wharf", true),
            ("/var/lib/wharf/images/blobs", true),
            ("/var/lib", true),
            ("/", true),
            ("/mnt/images", true),
            ("/mnt", true),
            ("/srv/all of var/lib/wharf", true),
            ("/srv", true),
            ("/srv/all of var/lib/docker", false),
            ("/var/lib/wharf2", false),
            ("/var/log", false),
            ("/data", false),
            ("/run", false),
            ("/nowhere", false),
        ] {
            assert_eq!(table.meet(Path::new(path), Path::new("/var/lib/wharf")), meets, "{path}");
        }
        assert!(table.meet(Path::new("/run"), Path::new("/run/wharf")));
        assert!(!table.meet(Path::new("/run/other"), Path::new("/run/wharf")));
        // What is mounted over hides nothing of what a recursive bind takes along.
        assert!(table.meet(Path::new("/data/lib"), Path::new("/data/lib/cache")));
        assert!(!table.meet(Path::new("/data/lib/other"), Path::new("/data/lib/cache")));
    }
}
