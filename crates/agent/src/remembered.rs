//! The directory on disk, so that traffic flows between hosts after a restart without any server.

use std::{io, path::Path};

use model::Directory;
use proto::directory::{decode_directory, encode_directory};

use crate::host::chain;

/// Nothing, if there is none. One that cannot be read is no reason to stay away: a leader tells it again.
pub(crate) fn read(path: &Path) -> Directory {
    match std::fs::read(path) {
        Ok(bytes) => decode_directory(&bytes).unwrap_or_else(|error| {
            tracing::warn!(error = chain(&error), path = %path.display(), "what was known of other nodes is lost");
            Directory::default()
        }),
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(error = chain(&error), path = %path.display(), "what was known of other nodes is lost");
            }
            Directory::default()
        }
    }
}

pub(crate) fn write(path: &Path, directory: &Directory) -> io::Result<()> {
    durable_file::replace(path, encode_directory(directory))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use model::{Listing, Name, NodeId};

    use super::*;

    #[test]
    fn it_is_read_as_it_was_written_and_nothing_if_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("directory");
        assert_eq!(read(&path), Directory::default());
        let listing = Listing {
            name: Name::new("n1").unwrap(),
            address: [192, 0, 2, 1].into(),
            subnet: "10.64.0.0/23".parse().ok(),
            endpoints: None,
        };
        let directory = Directory::remembered(BTreeMap::from([(NodeId(1), Arc::new(listing))]));
        write(&path, &directory).unwrap();
        assert_eq!(read(&path), directory);
        std::fs::write(&path, b"nonsense").unwrap();
        assert_eq!(read(&path), Directory::default());
    }
}
