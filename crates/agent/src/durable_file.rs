//! A small file that is replaced whole: after a crash it is the old one or the new one.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

/// Durable when it returns.
pub(crate) fn replace(path: &Path, text: impl AsRef<[u8]>) -> io::Result<()> {
    let unfinished = path.with_extension("tmp");
    let mut file = File::create(&unfinished)?;
    file.write_all(text.as_ref())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}
