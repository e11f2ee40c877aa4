//! The socket on this host: only root's.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use tokio::net::UnixListener;
use tokio_stream::Stream;

use crate::entrance::Connection;

/// After a connection that could not be accepted: there may be descriptors again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// A socket that is listened on. Dropping it takes it away, unless another has taken its place.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Of the file, to know it again.
    inode: u64,
}

impl Socket {
    /// Listens at `path`. A socket that a crashed server left is taken over; one that a server listens on is not.
    pub fn listen(path: &Path) -> io::Result<Socket> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        // Servers that start at the same moment look and bind one after the other.
        let turn = File::open(folder)?;
        flock(&turn, FlockOperation::LockExclusive)?;
        if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "another server listens there; stop it, or choose another socket",
                ));
            }
            std::fs::remove_file(path)?;
        }
        // Whoever connects before the mode is set is turned away as everyone is who is not root.
        let listener = std::os::unix::net::UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let inode = std::fs::symlink_metadata(path)?.ino();
        Ok(Socket { listener: UnixListener::from_std(listener)?, path: path.to_owned(), inode })
    }

    /// Connections by root; others are turned away, should the file's mode ever have been changed.
    pub fn incoming(&self) -> impl Stream<Item = io::Result<Connection>> {
        futures_util::stream::unfold(&self.listener, |listener| async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => match stream.peer_cred() {
                        Ok(peer) if peer.uid() == 0 => return Some((Ok(Connection::Host(stream)), listener)),
                        Ok(peer) => {
                            tracing::warn!(uid = peer.uid(), "a user other than root was turned away");
                        }
                        Err(error) => {
                            tracing::warn!(%error, "a connection whose user is not known was turned away");
                        }
                    },
                    // Out of descriptors, for example: serving those who are connected goes on.
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                    }
                }
            }
        })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            // Best effort: the next server takes a left socket over.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
