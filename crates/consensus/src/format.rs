//! How the log and its snapshots lie on disk. Pure: bytes in, bytes out; files are the server's business.
//!
//! The log is a chain of **segments**, files of a fixed length that are filled with zeros when they are made. A
//! segment is an array of 512-byte **sectors**, each with its own checksum; the first is the header. What is written
//! between two syncs is one **group**: a run of whole sectors, holding **records**. Every sector is written once,
//! in order, and never again while it holds anything; the next group is written only after the last one is durable.
//!
//! # A torn tail, or damage?
//!
//! A crash can leave any of the sectors of the *last* group unwritten. Because a sector is either written or still
//! zero (disks write a sector whole or not at all), the two cases can be told apart, and acknowledged data is never
//! cut by guesswork. Where the expected group is not complete, look at every later sector of the segment:
//!
//! | a sector there | means |
//! |---|---|
//! | zero | never written |
//! | its last byte (the mark) is zero | written in part, should a disk ever do that |
//! | valid, of the expected group | written |
//! | valid, of any other group | **damage**: a later group exists only if this one was durable, so it was acknowledged |
//! | the mark is there, the checksum wrong | **damage**: bits changed after the sector was written whole |
//!
//! Without damage the tail is torn: it was never acknowledged, and it is cut and reported. Any flipped bit in a
//! written sector is therefore an error, also in the very last group. What cannot be seen is a disk that
//! acknowledges a sync and then loses the whole end of the last group: that looks like a crash just before it.
//!
//! A segment that has a successor ends in a **seal**, made durable before anything is written to the successor; so
//! a segment that is missing at the end is noticed too. Sector checksums are bound to member, segment and position:
//! a segment in the place of another, or a sector that strayed, is no valid one.
//!
//! What groups and snapshots hold can be encrypted: see `encrypted`. None of the above depends on that.
//!
//! Start reading at [`recover`]; then `sector` for the bytes.

mod corruption;
mod encrypted;
mod group;
mod record;
mod recover;
mod replay;
mod scan;
mod sector;
mod segment;
mod snapshot;

pub use corruption::{Corruption, Damage};
pub use encrypted::{DataKey, Decrypt, EncryptedAt, NoKeys};
pub use group::GroupBuilder;
pub use recover::{Recovery, SegmentFile, Torn, UnwrittenSeal, recover};
pub use sector::SECTOR_BYTES;
pub use segment::{HEADER_BYTES, Position, SegmentHeader, segment_name, segment_number};
pub use snapshot::{
    SnapshotFile, decode_snapshot, encode_snapshot_header, snapshot_index, snapshot_is_encrypted,
    snapshot_name,
};

/// The newest version of both formats. A server refuses a newer one, and can read every older one.
pub const FORMAT_VERSION: u32 = ENCRYPTED_VERSION;
/// Of files that are not encrypted. They are written as ever, so that an earlier version of wharf reads them.
const PLAIN_VERSION: u32 = 1;
/// The header names a key, and what groups and snapshots hold is encrypted with it.
const ENCRYPTED_VERSION: u32 = 2;
