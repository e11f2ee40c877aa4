//! Building the bytes of one write group.

use super::{
    Position, SegmentHeader, record,
    sector::{self, SECTOR_BYTES, sectors_for},
};
use crate::{Entry, HardState};

/// Collects what is to be made durable together, then turns it into sectors.
///
/// The bytes depend on where they go, so they are made only when the place is known: first ask for
/// [`GroupBuilder::length_bytes`], then [`GroupBuilder::encode`].
#[derive(Clone, Debug, Default)]
pub struct GroupBuilder {
    payload: Vec<u8>,
}

impl GroupBuilder {
    pub fn hard_state(&mut self, hard_state: HardState) {
        record::write_hard_state(&mut self.payload, hard_state);
    }

    /// Replaces everything that the log holds from the entry's index on.
    pub fn entry(&mut self, entry: &Entry) {
        self.payload.reserve(record::entry_bytes(entry));
        record::write_entry(&mut self.payload, entry);
    }

    /// The log begins again after `position`. A snapshot that reaches there must be durable already.
    pub fn restart(&mut self, position: Position) {
        record::write_restart(&mut self.payload, position);
    }

    /// The last group of a segment whose successor is durable.
    pub fn seal(&mut self, next: u64) {
        record::write_seal(&mut self.payload, next);
    }

    pub fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }

    /// The same group with its records encrypted; for a segment whose header names the key.
    pub fn encrypted<E>(
        &self,
        encrypt: impl FnOnce(&[u8], &mut Vec<u8>) -> Result<(), E>,
    ) -> Result<GroupBuilder, E> {
        let mut payload = Vec::new();
        record::begin_encrypted(&mut payload);
        encrypt(&self.payload, &mut payload)?;
        Ok(GroupBuilder { payload })
    }

    /// What [`GroupBuilder::encrypted`] takes in a segment, where encryption adds so much.
    pub fn encrypted_length_bytes(&self, overhead_bytes: usize) -> u64 {
        (sectors_for(1 + self.payload.len() + overhead_bytes) * SECTOR_BYTES) as u64
    }

    /// What the group takes in a segment.
    pub fn length_bytes(&self) -> u64 {
        (sectors_for(self.payload.len()) * SECTOR_BYTES) as u64
    }

    /// The bytes to write at `offset` of the segment with this header.
    pub fn encode(&self, header: &SegmentHeader, offset: u64, group: u64) -> Vec<u8> {
        assert!(offset.is_multiple_of(SECTOR_BYTES as u64), "groups begin at a sector, not at byte {offset}");
        let mut bytes = Vec::with_capacity(self.length_bytes() as usize);
        sector::write(&mut bytes, header.place(offset / SECTOR_BYTES as u64), group, &self.payload);
        bytes
    }
}
