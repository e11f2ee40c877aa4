//! Writing a snapshot: whole and durable under another name first, then renamed.

use consensus::{
    Index, MemberId, Snapshot,
    format::{EncryptedAt, encode_snapshot_header, snapshot_name},
};

use super::{Disk, DiskFile, HostDisk, LogError, Vault, vault::OVERHEAD_BYTES};

/// Writes snapshots on any thread, beside the one that writes the log.
#[derive(Clone, Debug)]
pub struct SnapshotWriter<D: Disk = HostDisk> {
    disk: D,
    vault: Option<Vault>,
    member: MemberId,
}

/// Proof that a snapshot is durable. Give it to `LogWriter::compact`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedSnapshot {
    index: Index,
}

impl SavedSnapshot {
    pub fn index(&self) -> Index {
        self.index
    }
}

impl<D: Disk> SnapshotWriter<D> {
    pub(super) fn new(disk: D, vault: Option<Vault>, member: MemberId) -> SnapshotWriter<D> {
        SnapshotWriter { disk, vault, member }
    }

    /// Blocks until the snapshot is durable: write, fdatasync, rename, fsync of the directory.
    pub fn write(&self, snapshot: &Snapshot) -> Result<SavedSnapshot, LogError> {
        let index = snapshot.meta.index;
        let name = snapshot_name(index);
        let draft = format!("{name}.tmp");
        self.write_draft(&draft, snapshot).and_then(|()| self.disk.rename(&draft, &name)).map_err(
            |error| {
                // It takes space that is missing; failing that, the next start removes it.
                let _ = self.disk.remove(&draft);
                LogError::of_new_file(&name, "written", error)
            },
        )?;
        self.disk.sync_names().map_err(|e| LogError::fatal("the log's directory", "synced", e))?;
        Ok(SavedSnapshot { index })
    }

    fn write_draft(&self, draft: &str, snapshot: &Snapshot) -> std::io::Result<()> {
        let Snapshot { meta, data } = snapshot;
        let Some(encrypt) = self.vault.as_ref().map(Vault::encrypt) else {
            return self.write_file(draft, &encode_snapshot_header(self.member, meta, None, data), data);
        };
        let at = EncryptedAt::Snapshot { member: self.member, index: meta.index };
        let mut encrypted = Vec::with_capacity(data.len() + OVERHEAD_BYTES);
        encrypt.encrypt(at, data, &mut encrypted).map_err(std::io::Error::other)?;
        let header = encode_snapshot_header(self.member, meta, Some(encrypt.key()), &encrypted);
        self.write_file(draft, &header, &encrypted)
    }

    fn write_file(&self, name: &str, header: &[u8], data: &[u8]) -> std::io::Result<()> {
        let mut file = self.disk.create(name)?;
        file.write_at(header, 0)?;
        file.write_at(data, header.len() as u64)?;
        file.sync()
    }
}
