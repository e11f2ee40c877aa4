//! Reads an image archive from a stream into a staging area.
//!
//! The documents may come last (docker save writes them so), hence all files are staged before any is understood.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Read};

use super::{LoadError, Source};
use crate::blob::{StageError, Staged, Staging};
use crate::compression::decompress;
use crate::tarball::{Kind, Members, TarError, shown};

/// An image has a handful of files per layer.
const MAX_MEMBERS: usize = 100_000;
/// Of all names and targets of links together; honest ones have less than a hundred bytes each.
const MAX_NAME_BYTES: usize = 16 << 20;
/// As many as the kernel follows (path_resolution(7)).
const MAX_LINKS: usize = 40;

#[derive(Debug, Default)]
pub(super) struct ArchiveFiles {
    files: BTreeMap<String, Staged>,
    /// Old versions of docker save link a layer that two images share.
    links: BTreeMap<String, String>,
}

pub(super) fn read(
    input: impl Read,
    staging: &mut Staging,
    limit_bytes: u64,
) -> Result<ArchiveFiles, LoadError> {
    let mut found = ArchiveFiles::default();
    let unreadable = |source| LoadError::Archive { after: None, source };
    let plain = decompress(input).map_err(|error| unreadable(TarError::Read(error)))?;
    let mut members = Members::new(plain);
    let mut after: Option<String> = None;
    let (mut count, mut name_bytes) = (0, 0);
    loop {
        let failed = |source| LoadError::Archive { after: after.clone(), source };
        let Some(member) = members.next().map_err(failed)? else { break };
        count += 1;
        if count > MAX_MEMBERS {
            return Err(LoadError::TooManyFiles { limit: MAX_MEMBERS });
        }
        name_bytes += member.path.len() + member.link.len();
        if name_bytes > MAX_NAME_BYTES {
            return Err(LoadError::NamesTooLong { limit_bytes: MAX_NAME_BYTES });
        }
        let path = normal(&String::from_utf8_lossy(&member.path));
        match member.kind {
            Kind::File => {
                let staged = stage(&mut members, staging, limit_bytes, &shown(&member.path))?;
                found.files.insert(path, staged);
            }
            Kind::Symlink => {
                let target = String::from_utf8_lossy(&member.link).into_owned();
                let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
                found.links.insert(path.clone(), normal(&format!("{parent}/{target}")));
            }
            Kind::HardLink => {
                found.links.insert(path, normal(&String::from_utf8_lossy(&member.link)));
            }
            Kind::Directory | Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => {}
        }
        after = Some(shown(&member.path));
    }
    Ok(found)
}

fn stage(
    members: &mut Members<impl Read>,
    staging: &mut Staging,
    limit_bytes: u64,
    name: &str,
) -> Result<Staged, LoadError> {
    // The staging area reads through `Read`, whose errors cannot carry ours; the original is kept beside.
    let cause = RefCell::new(None);
    let content = MemberContent { members, cause: &cause };
    staging.add(content).map_err(|error| match (error, cause.take()) {
        (StageError::Input(_), Some(source)) => LoadError::Archive { after: Some(name.to_owned()), source },
        (error, _) => super::stage_error(error, name, limit_bytes),
    })
}

struct MemberContent<'a, R> {
    members: &'a mut Members<R>,
    cause: &'a RefCell<Option<TarError>>,
}

impl<R: Read> Read for MemberContent<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.members.read_stored(buffer).map_err(|error| {
            self.cause.replace(Some(error));
            io::Error::other("unreadable archive")
        })
    }
}

/// Paths are only keys here and never reach the file system, so `..` is just arithmetic.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

impl ArchiveFiles {
    pub(super) fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// A few names, for whoever loaded the wrong file.
    pub(super) fn summary(&self) -> String {
        let names: Vec<String> = self.files.keys().take(3).map(|name| format!("{name:?}")).collect();
        match (names.as_slice(), self.files.len()) {
            ([], _) => "no files at all".to_owned(),
            (names, count) if count > names.len() => {
                format!("{} and {} more files", names.join(", "), count - names.len())
            }
            (names, _) => names.join(", "),
        }
    }
}

impl Source for ArchiveFiles {
    fn take(&mut self, path: &str) -> Result<Option<Staged>, LoadError> {
        let mut path = path;
        for _ in 0..=MAX_LINKS {
            if let Some(staged) = self.files.get(path) {
                return Ok(Some(staged.clone()));
            }
            match self.links.get(path) {
                Some(target) => path = target,
                None => break,
            }
        }
        Ok(None)
    }
}
