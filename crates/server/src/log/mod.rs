//! The Raft log and the snapshots on disk. The formats are `consensus::format`'s; here are the files.
//!
//! | file | |
//! |---|---|
//! | `lock` | held with flock(2) by the server that uses the directory |
//! | `creating` | there only while a new log is made; a log with it was never used |
//! | `<segment>.wal` | a segment: as long as it will ever be, zero-filled, so that a write allocates nothing |
//! | `<index>.snapshot` | a snapshot of the applied state; only the newest counts |
//! | `*.tmp` | not finished; removed at the next start |
//!
//! # What a commit costs
//!
//! One group is **one pwrite(2) and one fdatasync(2)** of blocks that are allocated and written already, so the
//! file system has no metadata to journal. Beside them come one fstat(2), to see that the file still has a name, and one
//! getrandom(2) for encryption, of less than a microsecond each. Whoever has nothing else to wait for writes it where it
//! comes up ([`LogWriter::append_here`]): on a quick disk that costs less than to wake a thread and to be woken by it. On a
//! slow one a thread of its own writes ([`LogWriter::append`]), and puts everything that arrived during a sync into the next
//! group. Once per segment come: create, write zeros, fsync, rename, fsync of the directory, and a seal in the
//! segment before (pwrite, fdatasync). Segments double from 256 KiB to 16 MiB, so that a small cluster writes little.
//!
//! # What can go wrong
//!
//! - A crash at any point: the log opens with everything that was acknowledged. At most the last group is cut, and
//!   [`Report::torn`] says so.
//! - A failed write or sync is [`LogError::Fatal`] and never tried again: after it the kernel may drop the dirty
//!   pages and report success. The process has to end. The next start writes the last group again before it
//!   trusts it, because the page cache may show what the disk does not have.
//! - A full disk is noticed only where a file is made (a segment or a snapshot): before anything of the group was
//!   written. That is [`LogError::Full`]; the writer keeps the group, tries again every second, and acknowledges
//!   nothing meanwhile. The server stays up: it can serve reads and should refuse writes.
//! - Damage: see `consensus::format`. Nothing is changed on disk then.
//!
//! # Encryption
//!
//! With a [`Vault`], every group and every snapshot is encrypted with the newest of its keys. A segment has one key, so a
//! new key begins a new segment; and so does the first write to a log that was not encrypted yet. What older keys
//! encrypted is read with them until a snapshot covers it; [`Report::keys`] says which are still needed. It costs one pass
//! over the group, no system call beyond one for random bytes, and no promise: what recovery judges by stays readable.
//!
//! Start reading at [`Log::append`], then `open.rs`.

mod append;
mod disk;
mod error;
mod open;
mod snapshots;
mod vault;
mod writer;

#[cfg(test)]
mod tests;

pub use append::{Log, SegmentSizes};
pub use disk::{Disk, DiskFile, HostDisk};
pub use error::{LogError, OpenError};
pub use open::{Opened, Report, is_encrypted, is_there};
pub use snapshots::{SavedSnapshot, SnapshotWriter};
pub use vault::Vault;
pub use writer::{LogEvent, LogWriter};
