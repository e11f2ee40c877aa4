//! The built-in images `wharf.local/hello:1` and `:2`: this very program and the libraries that it is linked to.
//!
//! They need no registry and no network, and they are small: what they hold is on the host already.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use image::{FileContent, FileEntry, ImageConfig, LoadError, Store};

pub const REPOSITORY: &str = "wharf.local/hello";
const TAGS: [&str; 2] = ["1", "2"];
const PROGRAM: &str = "/wharf";

/// Where the dynamic linker is expected by programs of the architectures that wharf runs on. Source: the ABI
/// supplements of x86-64 and AArch64.
const LINKERS: [&str; 2] = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the program's own files cannot be read")]
    Own(#[from] io::Error),
    #[error("the image store refuses the demo image")]
    Load(#[from] LoadError),
    #[error("the image store cannot be read")]
    Store(#[from] image::Error),
}

/// Puts the images into the store, unless those of this build are there. `stamp` remembers which build that was.
pub fn import(store: &Store, stamp: &Path) -> Result<(), Error> {
    let program = std::env::current_exe()?;
    let build = build_of(&program)?;
    let mut complete = fs::read_to_string(stamp).is_ok_and(|known| known == build);
    for tag in TAGS {
        complete = complete && store.resolve(&format!("{REPOSITORY}:{tag}"))?.is_some();
    }
    if complete {
        return Ok(());
    }
    let libraries = libraries()?;
    let mut files =
        vec![FileEntry { path: PROGRAM.to_owned(), mode: 0o755, content: FileContent::CopyOf(program) }];
    files.extend(linker(&libraries));
    for library in &libraries {
        files.extend(with_its_links(library)?);
    }
    let folders: BTreeSet<String> =
        libraries.iter().filter_map(|library| Some(library.parent()?.display().to_string())).collect();
    let search = folders.into_iter().collect::<Vec<_>>().join(":");
    for tag in TAGS {
        let config = ImageConfig {
            entrypoint: vec![PROGRAM.to_owned(), "hello".to_owned()],
            env: vec![format!("HELLO_VERSION={tag}"), format!("LD_LIBRARY_PATH={search}")],
            // It needs no right that a user without a name does not have.
            user: "65534:65534".to_owned(),
            exposed_ports: vec!["8080/tcp".to_owned()],
            ..ImageConfig::default()
        };
        store.import_files(&format!("{REPOSITORY}:{tag}"), &files, config)?;
    }
    fs::write(stamp, build)?;
    Ok(())
}

/// Tells one build of the program from another without reading all of it.
fn build_of(program: &Path) -> io::Result<String> {
    use std::os::unix::fs::MetadataExt;
    let file = fs::metadata(program)?;
    Ok(format!("{} {} {}.{}", file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
}

/// The libraries that this process has mapped, the dynamic linker among them.
fn libraries() -> io::Result<BTreeSet<PathBuf>> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let path = |line: &str| line.find('/').map(|start| PathBuf::from(&line[start..]));
    let is_library = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.contains(".so"))
    };
    Ok(maps.lines().filter_map(path).filter(is_library).collect())
}

/// The name under which the kernel looks for the dynamic linker, where that is not where the file is.
fn linker(libraries: &BTreeSet<PathBuf>) -> Option<FileEntry> {
    LINKERS.iter().find_map(|name| {
        let real = fs::canonicalize(name).ok()?;
        let needs_link = libraries.contains(&real) && real != Path::new(name);
        let target = real.to_str()?.to_owned();
        needs_link.then(|| FileEntry {
            path: (*name).to_owned(),
            mode: 0o777,
            content: FileContent::SymlinkTo(target),
        })
    })
}

/// A library, and the names beside it that lead to it: programs ask for `libz.so.1`, not for `libz.so.1.2.13`.
fn with_its_links(library: &Path) -> io::Result<Vec<FileEntry>> {
    let text =
        |path: &Path| path.to_str().map(str::to_owned).ok_or_else(|| io::Error::other("a path is not UTF-8"));
    let content = FileContent::CopyOf(library.to_owned());
    let mut files = vec![FileEntry { path: text(library)?, mode: 0o755, content }];
    let Some(folder) = library.parent() else { return Ok(files) };
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let leads_here = || fs::canonicalize(entry.path()).is_ok_and(|real| real == library);
        if entry.file_type()?.is_symlink() && leads_here() {
            let content = FileContent::SymlinkTo(text(library)?);
            files.push(FileEntry { path: text(&entry.path())?, mode: 0o777, content });
        }
    }
    Ok(files)
}
