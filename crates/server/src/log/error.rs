//! What can go wrong with the files, sorted by what has to be done about it.

use std::io;

use consensus::format::Corruption;

/// While the log is in use.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Nothing of what was to be written was written; the log is as it was, and may be tried again.
    #[error("the disk is full ({file}); free some space in the data directory, the server will notice")]
    Full { file: String, source: io::Error },
    /// What is on disk is not known any more. The only way on is to end the process and to recover.
    #[error(
        "{file} could not be {action}; this server has to stop, because it cannot know what is on its disk"
    )]
    Fatal { file: String, action: &'static str, source: io::Error },
    #[error("an earlier write to the log failed, so nothing more is written")]
    Poisoned,
}

impl LogError {
    /// For files that have no name yet that anyone would look at: a full disk leaves everything as it was.
    pub(super) fn of_new_file(file: &str, action: &'static str, source: io::Error) -> LogError {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                LogError::Full { file: file.to_owned(), source }
            }
            _ => LogError::fatal(file, action, source),
        }
    }

    pub(super) fn fatal(file: &str, action: &'static str, source: io::Error) -> LogError {
        LogError::Fatal { file: file.to_owned(), action, source }
    }
}

/// At the start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "{dir} is in use by another server{}; two servers cannot share a data directory",
        holder_words(holder)
    )]
    Locked { dir: String, holder: String },
    #[error(
        "the file system of {dir} is mounted read-only, and a server has to write there; the kernel does that by itself when \
         a disk fails, so look at `dmesg` first, then `mount -o remount,rw`"
    )]
    ReadOnly { dir: String, source: io::Error },
    #[error("{file} in the log's directory could not be {action}")]
    Io { file: String, action: &'static str, source: io::Error },
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    #[error("the log could not be made ready for writing")]
    Repair(#[from] LogError),
}

fn holder_words(holder: &str) -> String {
    let pid = holder.trim();
    if pid.is_empty() { String::new() } else { format!(" (process {pid})") }
}

impl OpenError {
    pub(super) fn io(file: &str, action: &'static str) -> impl FnOnce(io::Error) -> OpenError {
        let file = file.to_owned();
        move |source| OpenError::Io { file, action, source }
    }
}
