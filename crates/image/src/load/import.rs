//! Builds a one-layer image from given files, such as the demo image from the running binary.
//!
//! Reproducible: the layer is sorted by path, belongs to root and is dated 1970, so the same input gives the same
//! digest everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{Candidate, LoadError, describe, stage_error, stage_json};
use tar::EntryType;

use crate::blob::{Staged, Staging};
use crate::document::{
    ConfigDocument, ImageConfig, Manifest, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, RootFs, host_architecture,
};
use crate::store::{Image, Store};
use reference::TaggedName;

/// A file to put into an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Absolute, without `.`, `..` or doubled slashes. Directories on the way need not be given.
    pub path: String,
    /// Permission bits, such as 0o755; those of a symbolic link do not matter.
    pub mode: u32,
    pub content: FileContent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileContent {
    Bytes(Vec<u8>),
    /// The content of a regular file of this host, links followed.
    CopyOf(PathBuf),
    SymlinkTo(String),
    Directory,
}

impl Store {
    /// Makes an image of exactly these files and this configuration, and lists it under `name`.
    pub fn import_files(
        &self,
        name: &str,
        files: &[FileEntry],
        config: ImageConfig,
    ) -> Result<Image, LoadError> {
        let name: TaggedName = name.parse()?;
        let limit = self.inner.limits.archive_bytes;
        let mut staging = self.inner.staging()?;
        let layer = stage_layer(&mut staging, &sorted(files)?, limit)?;
        let document = ConfigDocument {
            created: None,
            architecture: host_architecture().to_owned(),
            os: "linux".to_owned(),
            config: Some(config.into()),
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![layer.digest.clone()] },
        };
        let config = stage_json(&mut staging, &document, limit)?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: OCI_MANIFEST.to_owned(),
            config: describe(OCI_CONFIG, &config),
            layers: vec![describe(OCI_LAYER, &layer)],
        };
        let candidate = Candidate {
            names: BTreeSet::from([name]),
            manifest: stage_json(&mut staging, &manifest, limit)?,
            media_type: OCI_MANIFEST.to_owned(),
            config,
            layers: vec![layer],
            created: None,
            picked_from: None,
        };
        self.commit(vec![candidate])?.pop().ok_or(LoadError::Empty)
    }
}

/// The entries by path, with the directories on their way, which sort before them.
fn sorted(files: &[FileEntry]) -> Result<BTreeMap<String, FileEntry>, LoadError> {
    let mut all = BTreeMap::new();
    for file in files {
        let bad = |problem| LoadError::BadFile { path: file.path.clone(), problem };
        let Some(path) = file.path.strip_prefix('/') else { return Err(bad("the path has to be absolute")) };
        if path.split('/').any(|part| matches!(part, "" | "." | "..") || part.contains('\0')) {
            return Err(bad("the path has an empty component, \".\" or \"..\" in it"));
        }
        for (slash, _) in path.match_indices('/') {
            let directory =
                FileEntry { path: path[..slash].to_owned(), mode: 0o755, content: FileContent::Directory };
            all.entry(path[..slash].to_owned()).or_insert(directory);
        }
        let is_implied = |before: &FileEntry| before.content == FileContent::Directory;
        match all.insert(path.to_owned(), file.clone()) {
            Some(before) if !(is_implied(&before) && file.content == FileContent::Directory) => {
                return Err(bad("the path is given twice"));
            }
            Some(_) | None => {}
        }
    }
    Ok(all)
}

fn stage_layer(
    staging: &mut Staging,
    files: &BTreeMap<String, FileEntry>,
    limit_bytes: u64,
) -> Result<Staged, LoadError> {
    let mut layer = staging.create_file()?;
    let mut put =
        |bytes: &[u8]| layer.take(bytes).map_err(|error| stage_error(error, "the layer", limit_bytes));
    for (path, entry) in files {
        match &entry.content {
            FileContent::Bytes(bytes) => {
                put(&header(path, entry, EntryType::Regular, bytes.len() as u64)?)?;
                put(bytes)?;
                put(padding(bytes.len() as u64))?;
            }
            FileContent::CopyOf(source) => copy(path, entry, source, &mut put)?,
            FileContent::SymlinkTo(_) => put(&header(path, entry, EntryType::Symlink, 0)?)?,
            FileContent::Directory => put(&header(&format!("{path}/"), entry, EntryType::Directory, 0)?)?,
        }
    }
    // The mark at the end of an archive: two blocks of zeros.
    put(&[0; 1024])?;
    Ok(layer.finish())
}

fn copy(
    path: &str,
    entry: &FileEntry,
    source: &Path,
    put: &mut impl FnMut(&[u8]) -> Result<(), LoadError>,
) -> Result<(), LoadError> {
    let failed = |error| LoadError::Source { path: source.display().to_string(), source: error };
    let mut file = File::open(source).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(LoadError::BadFile {
            path: entry.path.clone(),
            problem: "its source is not a regular file",
        });
    }
    let size = metadata.len();
    put(&header(path, entry, EntryType::Regular, size)?)?;
    let mut buffer = vec![0; 128 * 1024];
    let mut left = size;
    while left > 0 {
        let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let n = file.read(&mut buffer[..want]).map_err(failed)?;
        if n == 0 {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        put(&buffer[..n])?;
        left -= n as u64;
    }
    put(padding(size))
}

/// The header of an entry, with a GNU long-name member before it where the name needs one.
fn header(path: &str, entry: &FileEntry, kind: EntryType, size: u64) -> Result<Vec<u8>, LoadError> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(entry.mode & 0o7777);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    let mut builder = tar::Builder::new(Vec::new());
    let appended = match &entry.content {
        FileContent::SymlinkTo(target) => builder.append_link(&mut header, path, target),
        FileContent::Bytes(_) | FileContent::CopyOf(_) | FileContent::Directory => {
            builder.append_data(&mut header, path, io::empty())
        }
    };
    let bad =
        |_| LoadError::BadFile { path: entry.path.clone(), problem: "a tar archive cannot hold its name" };
    appended.map_err(bad)?;
    Ok(builder.get_ref().clone())
}

/// What fills the last block of a member.
fn padding(size: u64) -> &'static [u8] {
    const ZEROS: [u8; 512] = [0; 512];
    let over = usize::try_from(size % 512).unwrap_or(0);
    if over == 0 { &[] } else { &ZEROS[over..] }
}
