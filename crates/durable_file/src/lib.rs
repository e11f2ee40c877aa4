//! Small files that are replaced whole: after a crash there is the old one or the new one, and nothing between.
//!
//! What is written goes into a draft beside the file first, which is synced and then takes the file's name. A rename is
//! durable once the folder is synced as well (fsync(2)).

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Durable when it returns; readable by this user alone. For files that one process at a time writes: the draft is
/// `path.tmp`.
pub fn replace(path: &Path, contents: impl AsRef<[u8]>) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".tmp");
    replace_from(&PathBuf::from(draft), path, contents)
}

/// The same where several may write at once, or drafts have a place of their own: `draft` is this writer's alone, and on
/// the same file system.
pub fn replace_from(draft: &Path, path: &Path, contents: impl AsRef<[u8]>) -> io::Result<()> {
    let written = write(draft, contents.as_ref()).and_then(|()| fs::rename(draft, path));
    if written.is_err() {
        // It may have taken the last room on the disk, and may hold a secret. Why it was not written says more than why it
        // stays.
        let _ = fs::remove_file(draft);
    }
    written.and_then(|()| sync_folder_of(path))
}

/// Durable when it returns. It is no error where there is none.
pub fn remove(path: &Path) -> io::Result<()> {
    remove_if_there(path)?;
    sync_folder_of(path)
}

fn write(draft: &Path, contents: &[u8]) -> io::Result<()> {
    // Never into a file that is there: it may have other readers.
    remove_if_there(draft)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(contents)?;
    file.sync_all()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_replaced_whole_and_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        // What a crash left, which others can read.
        fs::write(folder.path().join("key.tmp"), "a longer text, half of it").unwrap();
        for text in ["one", "two"] {
            replace(&path, text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(folder.path()), ["key"]);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn what_cannot_be_replaced_leaves_no_draft() {
        let folder = tempfile::tempdir().unwrap();
        // No file can take the name of a folder.
        let taken = folder.path().join("taken");
        fs::create_dir(&taken).unwrap();
        replace_from(&folder.path().join("draft"), &taken, "text").unwrap_err();
        assert_eq!(names(folder.path()), ["taken"]);
    }
}
