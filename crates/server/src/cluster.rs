//! Which cluster this server is of: one line of text beside the log, drawn once.
//!
//! Agents remember it, and do not listen to a server of another cluster: an emptied or mixed-up data folder must not stop
//! what runs on every node.

use std::{fs, io, path::Path};

use model::ClusterId;

use crate::durable_file;

/// The one in `dir`; `drawn` at the first start.
pub(crate) fn identify(dir: &Path, drawn: ClusterId) -> io::Result<ClusterId> {
    let path = dir.join("cluster");
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            durable_file::replace(&path, format!("{drawn}\n"))?;
            Ok(drawn)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_drawn_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = ClusterId(7);
        assert_eq!(identify(dir.path(), first).unwrap(), first);
        assert_eq!(identify(dir.path(), ClusterId(8)).unwrap(), first);
        fs::write(dir.path().join("cluster"), "garbage").unwrap();
        assert!(identify(dir.path(), ClusterId(8)).unwrap_err().to_string().contains("garbage"));
    }
}
