//! Looks up a file in unpacked layers as if overlayfs had merged them, without mounting anything.
//!
//! A path is walked one component at a time with descriptors that follow nothing; symbolic links are read and walked
//! from the root of the merged tree, as inside the container. So no link can lead to a file of the host.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::unpack::{OPAQUE_XATTR, is_whiteout};

/// As many as the kernel follows (path_resolution(7)).
const MAX_LINKS: u32 = 40;

/// The same directory in every layer that has it and is not hidden, top first.
type MergedDir = Rc<Vec<OwnedFd>>;

enum Found {
    Nothing,
    Directory(MergedDir),
    Link(Vec<u8>),
    File(OwnedFd),
}

/// Opens a regular file by an absolute path; `None` if there is none.
pub(crate) fn open_file(layers: &[PathBuf], path: &str) -> Result<Option<File>, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::PATH;
    let roots: Result<Vec<OwnedFd>, Errno> =
        layers.iter().map(|layer| rustix::fs::open(layer, flags, Mode::empty())).collect();
    let root: MergedDir = Rc::new(roots?);
    let mut above: Vec<MergedDir> = vec![Rc::clone(&root)];
    let mut ahead: VecDeque<Vec<u8>> = components(path.as_bytes());
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        if name == b".." {
            // The root is its own parent.
            if above.len() > 1 {
                above.pop();
            }
            continue;
        }
        let Some(here) = above.last() else { return Ok(None) };
        match look_up(here, &name)? {
            Found::Nothing => return Ok(None),
            Found::Directory(dir) => above.push(dir),
            Found::File(file) if ahead.is_empty() => return Ok(Some(File::from(file))),
            Found::File(_) => return Ok(None),
            Found::Link(target) => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                if target.starts_with(b"/") {
                    above.truncate(1);
                }
                for part in components(&target).into_iter().rev() {
                    ahead.push_front(part);
                }
            }
        }
    }
    Ok(None)
}

fn components(path: &[u8]) -> VecDeque<Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.map(<[u8]>::to_vec).collect()
}

fn look_up(dir: &MergedDir, name: &[u8]) -> Result<Found, Errno> {
    let mut directories = Vec::new();
    for layer in dir.iter() {
        let stat = match rustix::fs::statat(layer, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            other => other?,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory {
            if !directories.is_empty() || is_whiteout(&stat) {
                break;
            }
            return non_directory(layer, name, kind);
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(layer, name, flags, Mode::empty())?;
        let mut value = [0_u8; 8];
        let opaque =
            matches!(rustix::fs::fgetxattr(&opened, OPAQUE_XATTR, &mut value), Ok(1) if value[0] == b'y');
        directories.push(opened);
        if opaque {
            break;
        }
    }
    Ok(if directories.is_empty() { Found::Nothing } else { Found::Directory(Rc::new(directories)) })
}

fn non_directory(layer: &OwnedFd, name: &[u8], kind: FileType) -> Result<Found, Errno> {
    match kind {
        FileType::Symlink => Ok(Found::Link(rustix::fs::readlinkat(layer, name, Vec::new())?.into_bytes())),
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Ok(Found::File(rustix::fs::openat(layer, name, flags, Mode::empty())?))
        }
        // Opening a fifo would wait, and a device has effects.
        _ => Ok(Found::Nothing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    fn read(layers: &[PathBuf], path: &str) -> String {
        match open_file(layers, path) {
            Ok(Some(mut file)) => {
                let mut text = String::new();
                file.read_to_string(&mut text).unwrap();
                text
            }
            Ok(None) => "-".to_owned(),
            Err(errno) => errno.to_string(),
        }
    }

    #[test]
    fn the_top_wins_and_what_is_hidden_stays_hidden() {
        let dir = tempfile::tempdir().unwrap();
        let layers: Vec<PathBuf> =
            ["top", "middle", "bottom"].iter().map(|name| dir.path().join(name)).collect();
        for layer in &layers {
            let name = layer.file_name().unwrap().to_str().unwrap();
            fs::create_dir_all(layer.join("etc")).unwrap();
            fs::write(layer.join("etc").join(name), name).unwrap();
            fs::create_dir_all(layer.join(format!("only-{name}"))).unwrap();
            fs::write(layer.join(format!("only-{name}/f")), name).unwrap();
        }
        fs::write(layers[2].join("etc/gone"), "gone").unwrap();
        let fd = rustix::fs::open(&layers[1], OFlags::DIRECTORY, Mode::empty()).unwrap();
        rustix::fs::mknodat(&fd, "etc/gone", FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        fs::create_dir(layers[2].join("opaque")).unwrap();
        fs::write(layers[2].join("opaque/old"), "old").unwrap();
        fs::create_dir(layers[1].join("opaque")).unwrap();
        rustix::fs::setxattr(layers[1].join("opaque"), OPAQUE_XATTR, b"y", rustix::fs::XattrFlags::empty())
            .unwrap();
        // Links absolute, climbing, through another layer, in a circle and out of the tree.
        symlink("/etc/bottom", layers[0].join("absolute")).unwrap();
        symlink("../../../etc/middle", layers[0].join("etc/climbing")).unwrap();
        symlink("only-bottom", layers[1].join("to-dir")).unwrap();
        symlink("circle", layers[0].join("circle")).unwrap();
        symlink(dir.path().join("top/etc/top"), layers[0].join("outside")).unwrap();
        for (path, expected) in [
            ("/etc/top", "top"),
            ("/etc/bottom", "bottom"),
            ("/etc/gone", "-"),
            ("/opaque/old", "-"),
            ("/absolute", "bottom"),
            ("/etc/climbing", "middle"),
            ("/to-dir/f", "bottom"),
            ("/only-top/../etc/middle", "middle"),
            ("/circle", "Too many levels of symbolic links (os error 40)"),
            ("/outside", "-"),
            ("/etc", "-"),
            ("/etc/top/f", "-"),
        ] {
            assert_eq!(read(&layers, path), expected, "{path}");
        }
    }
}
