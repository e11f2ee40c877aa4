//! The lowest layer of every container: the places that something is mounted over in each of them.
//!
//! Few images have all of these. Made in the container's own layer, they cost each start a copy of `/etc` and an inode
//! apiece, which is half of what the mounts cost; here they are made once. An image that has them hides these.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use super::{HostError, make_dir};

const DIRECTORIES: [&str; 4] = ["dev", "etc", "proc", "sys"];
/// Those of `etc.rs`.
const FILES: [&str; 3] = ["etc/hostname", "etc/hosts", "etc/resolv.conf"];

/// What is there already stays as it is: containers of an earlier agent have it mounted.
pub(super) fn make(path: &Path) -> Result<(), HostError> {
    for directory in DIRECTORIES {
        let directory = path.join(directory);
        make_dir(&directory)?;
        allow(&directory, 0o755)?;
    }
    for file in FILES {
        let file = path.join(file);
        // Without truncating, which would be a change.
        let made = File::options().create(true).append(true).open(&file);
        made.map_err(|source| HostError::Write { path: file.clone(), source })?;
        allow(&file, 0o644)?;
    }
    Ok(())
}

/// Whatever the umask: containers see this mode.
fn allow(path: &Path, mode: u32) -> Result<(), HostError> {
    let set = || -> io::Result<()> {
        match fs::metadata(path)?.permissions().mode() & 0o7777 == mode {
            true => Ok(()),
            false => fs::set_permissions(path, Permissions::from_mode(mode)),
        }
    };
    set().map_err(|source| HostError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_stays_and_what_is_missing_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path()).unwrap();
        let hosts = dir.path().join("etc/hosts");
        let changed = fs::metadata(&hosts).unwrap().modified().unwrap();
        fs::remove_dir(dir.path().join("proc")).unwrap();
        make(dir.path()).unwrap();
        assert_eq!(fs::metadata(&hosts).unwrap().modified().unwrap(), changed);
        let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(DIRECTORIES.map(mode), [0o755; 4]);
        assert_eq!(FILES.map(mode), [0o644; 3]);
    }
}
