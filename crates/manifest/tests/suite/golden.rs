//! Texts that are kept beside their expected output and read by people.
//!
//! `UPDATE_GOLDENS=1 cargo test -p manifest` writes them anew; read what changed before committing it.

use std::{fs, path::Path, path::PathBuf};

/// The files of a folder of this crate with the ending, in order.
pub(crate) fn files(folder: impl AsRef<Path>, ending: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|found| found == ending));
    files.sort();
    files
}

pub(crate) fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

pub(crate) fn name(file: &Path) -> &str {
    file.file_name().and_then(|name| name.to_str()).unwrap()
}

/// Compares with a file, or writes it when told to. The difference found, if any.
pub(crate) fn compare(golden: &Path, actual: &str) -> Result<(), String> {
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        fs::write(golden, actual).unwrap();
        return Ok(());
    }
    let expected = fs::read_to_string(golden).unwrap_or_default();
    if expected == actual {
        return Ok(());
    }
    Err(format!("{} differs\n--- expected\n{expected}\n--- actual\n{actual}", golden.display()))
}

pub(crate) fn fail_if_any(differences: Vec<String>) {
    assert!(differences.is_empty(), "{}\n{} differ", differences.join("\n"), differences.len());
}
