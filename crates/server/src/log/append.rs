//! Writing: groups into the active segment, a new segment when it is full, and removing what a snapshot covers.

use std::{collections::VecDeque, fmt};

use consensus::{
    HardState, Index, MemberId, Persist,
    format::{
        EncryptedAt, GroupBuilder, HEADER_BYTES, Position, SECTOR_BYTES, SegmentHeader, segment_name,
        snapshot_index, snapshot_name,
    },
};

use super::{
    Disk, DiskFile, HostDisk, LogError, SavedSnapshot, SnapshotWriter, Vault,
    vault::{Encrypt, OVERHEAD_BYTES},
};

/// How long segments are, in bytes. Each is twice as long as the one before it, within these bounds; only a group that
/// is larger makes a larger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSizes {
    pub smallest_bytes: u64,
    pub largest_bytes: u64,
}

impl Default for SegmentSizes {
    fn default() -> SegmentSizes {
        SegmentSizes { smallest_bytes: 256 << 10, largest_bytes: 16 << 20 }
    }
}

impl SegmentSizes {
    /// With room for the header, one group of that size and the seal; and no less than `wanted_bytes`, within bounds.
    pub(super) fn length(&self, wanted_bytes: u64, room_bytes: u64) -> u64 {
        let needed = HEADER_BYTES as u64 + room_bytes + SEAL_BYTES;
        wanted_bytes.clamp(self.smallest_bytes, self.largest_bytes).max(needed)
    }
}

/// The open log. One thread owns it; see [`super::LogWriter`].
pub struct Log<D: Disk = HostDisk> {
    pub(super) disk: D,
    pub(super) sizes: SegmentSizes,
    pub(super) vault: Option<Vault>,
    pub(super) member: MemberId,
    /// All segments, oldest first; the last is the active one.
    pub(super) segments: VecDeque<SegmentHeader>,
    pub(super) file: D::File,
    /// Where the next group goes in the active segment.
    pub(super) end_offset: u64,
    pub(super) next_group: u64,
    /// As written, for the header of the next segment.
    pub(super) hard_state: HardState,
    pub(super) last: Position,
    pub(super) poisoned: bool,
}

impl<D: Disk> Log<D> {
    /// Makes all of these durable together, or none of them.
    ///
    /// Two system calls: pwrite and fdatasync; more only when a segment is full or a snapshot is installed. After
    /// [`LogError::Full`] the same call may be tried again; after anything else the log refuses to go on.
    pub fn append(&mut self, batch: &[Persist]) -> Result<(), LogError> {
        if self.poisoned {
            return Err(LogError::Poisoned);
        }
        let result = self.try_append(batch);
        self.poisoned = matches!(result, Err(LogError::Fatal { .. }));
        result
    }

    fn try_append(&mut self, batch: &[Persist]) -> Result<(), LogError> {
        // The record that restarts the log after a snapshot may exist only if the snapshot does.
        for snapshot in batch.iter().filter_map(|persist| persist.snapshot.as_ref()) {
            self.snapshots().write(snapshot)?;
        }
        let mut group = GroupBuilder::default();
        let (mut hard_state, mut last) = (self.hard_state, self.last);
        for persist in batch {
            if let Some(snapshot) = &persist.snapshot {
                last = Position { index: snapshot.meta.index, term: snapshot.meta.term };
                group.restart(last);
            }
            for entry in &persist.entries {
                last = Position { index: entry.index, term: entry.term };
                group.entry(entry);
            }
            if let Some(new) = persist.hard_state {
                hard_state = new;
                group.hard_state(new);
            }
        }
        self.write_group(&group)?;
        (self.hard_state, self.last) = (hard_state, last);
        match batch.iter().rev().find_map(|persist| persist.snapshot.as_ref()) {
            Some(installed) => self.remove_covered(installed.meta.index),
            None => Ok(()),
        }
    }

    /// Whether the active segment takes a group of about so many bytes.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let sectors = (bytes + OVERHEAD_BYTES).div_ceil(SECTOR_BYTES) as u64 + 1;
        self.end_offset + sectors * SECTOR_BYTES as u64 + SEAL_BYTES <= self.active().length_bytes
    }

    /// This snapshot of the member's own state is durable: removes the segments that it covers.
    pub fn compact(&mut self, saved: &SavedSnapshot) -> Result<(), LogError> {
        if self.poisoned {
            return Err(LogError::Poisoned);
        }
        let result = self.remove_covered(saved.index());
        self.poisoned = matches!(result, Err(LogError::Fatal { .. }));
        result
    }

    /// Writes snapshots on any thread.
    pub fn snapshots(&self) -> SnapshotWriter<D> {
        SnapshotWriter::new(self.disk.clone(), self.vault.clone(), self.member)
    }

    pub(super) fn write_group(&mut self, group: &GroupBuilder) -> Result<(), LogError> {
        if group.is_empty() {
            return Ok(());
        }
        let encrypt = self.vault.as_ref().map(Vault::encrypt);
        let length_bytes = match &encrypt {
            None => group.length_bytes(),
            Some(_) => group.encrypted_length_bytes(OVERHEAD_BYTES),
        };
        let is_full = self.end_offset + length_bytes + SEAL_BYTES > self.active().length_bytes;
        let other_key = self.active().encrypted_with != encrypt.as_ref().map(Encrypt::key);
        if is_full || other_key {
            self.begin_segment(length_bytes, encrypt.as_ref())?;
        }
        let name = segment_name(self.active().segment);
        let encrypted = encrypt.map(|encrypt| self.encrypt(&encrypt, group));
        let encrypted = encrypted.transpose().map_err(|e| LogError::fatal(&name, "encrypted", e))?;
        let bytes =
            encrypted.as_ref().unwrap_or(group).encode(self.active(), self.end_offset, self.next_group);
        self.file.write_at(&bytes, self.end_offset).map_err(|e| LogError::fatal(&name, "written", e))?;
        self.file.sync().map_err(|e| LogError::fatal(&name, "synced", e))?;
        self.end_offset += bytes.len() as u64;
        self.next_group += 1;
        Ok(())
    }

    fn encrypt(&self, encrypt: &Encrypt, group: &GroupBuilder) -> std::io::Result<GroupBuilder> {
        let at = EncryptedAt::Group { member: self.member, group: self.next_group };
        group.encrypted(|plain, out| encrypt.encrypt(at, plain, out)).map_err(std::io::Error::other)
    }

    /// The successor is durable before the seal says that there is one, and the seal before the successor is used.
    fn begin_segment(&mut self, room_bytes: u64, encrypt: Option<&Encrypt>) -> Result<(), LogError> {
        let active = *self.active();
        let header = SegmentHeader {
            segment: active.segment + 1,
            length_bytes: self.sizes.length(active.length_bytes * 2, room_bytes),
            // The seal takes a number of its own.
            first_group: self.next_group + 1,
            hard_state: self.hard_state,
            before: self.last,
            member: self.member,
            encrypted_with: encrypt.map(Encrypt::key),
        };
        let file = create_segment(&self.disk, &header)?;
        let mut seal = GroupBuilder::default();
        seal.seal(header.segment);
        let name = segment_name(active.segment);
        let bytes = seal.encode(&active, self.end_offset, self.next_group);
        self.file.write_at(&bytes, self.end_offset).map_err(|e| LogError::fatal(&name, "sealed", e))?;
        self.file.sync().map_err(|e| LogError::fatal(&name, "synced", e))?;
        self.file = file;
        self.next_group = header.first_group;
        self.end_offset = HEADER_BYTES as u64;
        self.segments.push_back(header);
        Ok(())
    }

    /// A file that cannot be removed is in nobody's way, and the next start tries again.
    pub(super) fn remove_covered(&mut self, index: Index) -> Result<(), LogError> {
        while self.segments.get(1).is_some_and(|next| next.before.index <= index) {
            let Some(oldest) = self.segments.pop_front() else { break };
            self.remove(&segment_name(oldest.segment));
            // One at a time: no file system may keep an older one and lose a newer one.
            self.disk.sync_names().map_err(|e| LogError::fatal("the log's directory", "synced", e))?;
        }
        let names = self.disk.list().unwrap_or_default();
        let snapshots: Vec<Index> = names.iter().filter_map(|name| snapshot_index(name)).collect();
        let newest = snapshots.iter().max().copied().unwrap_or_default();
        snapshots.iter().filter(|&&old| old < newest).for_each(|&old| self.remove(&snapshot_name(old)));
        Ok(())
    }

    fn remove(&self, name: &str) {
        if let Err(error) = self.disk.remove(name) {
            tracing::warn!(%error, file = name, "a file that is not needed any more cannot be removed");
        }
    }

    pub(super) fn active(&self) -> &SegmentHeader {
        &self.segments[self.segments.len() - 1]
    }
}

const SEAL_BYTES: u64 = SECTOR_BYTES as u64;

/// Makes a zero-filled segment durable under its name.
pub(super) fn create_segment<D: Disk>(disk: &D, header: &SegmentHeader) -> Result<D::File, LogError> {
    let name = segment_name(header.segment);
    let draft = format!("{name}.tmp");
    let made = fill_segment(disk, &draft, header)
        .and_then(|file| disk.rename(&draft, &name).map(|()| file))
        .map_err(|error| {
            // It takes space that is missing; failing that, the next start removes it.
            let _ = disk.remove(&draft);
            LogError::of_new_file(&name, "created", error)
        })?;
    disk.sync_names().map_err(|e| LogError::fatal("the log's directory", "synced", e))?;
    Ok(made)
}

fn fill_segment<D: Disk>(disk: &D, name: &str, header: &SegmentHeader) -> std::io::Result<D::File> {
    let mut file = disk.create(name)?;
    // Written, not only allocated: an allocated block that was never written costs a journal commit at its first sync.
    let zeros = vec![0; (1 << 20).min(header.length_bytes as usize)];
    let mut offset = 0;
    while offset < header.length_bytes {
        let length = (zeros.len() as u64).min(header.length_bytes - offset);
        file.write_at(&zeros[..length as usize], offset)?;
        offset += length;
    }
    file.write_at(&header.encode(), 0)?;
    file.sync()?;
    Ok(file)
}

impl<D: Disk> fmt::Debug for Log<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("member", &self.member)
            .field("segments", &self.segments)
            .field("end_offset", &self.end_offset)
            .field("last", &self.last)
            .field("poisoned", &self.poisoned)
            .finish_non_exhaustive()
    }
}
