//! The backup file: the state of a cluster, sealed.
//!
//! | bytes | |
//! |---|---|
//! | 0..8 | magic `wharfbak` |
//! | 8..12 | format version, little-endian, as all numbers here |
//! | 12..16 | length of the data keys |
//! | then | the data keys of this backup, locked with a key file or a passphrase: text, see `trust::seal` |
//! | then | pieces: a length u32, and so many sealed bytes |
//!
//! A piece, opened, is a byte that says what it is, then: 0 begin (version of the state u64, time of the backup in Unix ms
//! u64), 1 data, 2 end (length of all data u64). The pieces of a backup are sealed with a key of their own, each for its
//! position: what was cut off, left out, or is of another backup is noticed. The data is a snapshot as `proto::codec`
//! writes it, so every later version of wharf reads it.

use std::io::{self, Read, Write};

use bytes::Bytes;
use model::{ClusterId, Timestamp};
use trust::{
    RandomError,
    seal::{self, KeyRing, Lock, LockError, LockedKeys, LockedTextError, Place, Sealer, Unlock, UnlockError},
};

const MAGIC: [u8; 8] = *b"wharfbak";
const FORMAT: u32 = 1;
/// What keys and pieces may take: the file is not trusted before it is opened.
const MAX_KEYS: u32 = 64 << 10;
const MAX_PIECE: u32 = 16 << 20;

const BEGIN: u8 = 0;
const DATA: u8 = 1;
const END: u8 = 2;

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    pub cluster: ClusterId,
    pub taken_at: Timestamp,
    /// As `manager::Codec::encode_snapshot` writes it.
    pub state: Bytes,
}

#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("the backup cannot be written")]
    Io(#[from] io::Error),
    #[error("the backup's keys cannot be made")]
    Random(#[from] RandomError),
    #[error("the backup cannot be locked")]
    Lock(#[from] LockError),
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the backup cannot be read")]
    Io(#[source] io::Error),
    #[error("it is no backup of wharf")]
    NotOurs,
    #[error("it has format {0}, this version reads {FORMAT}: it was written by a newer version")]
    NewerVersion(u32),
    #[error("it is cut off at byte {0}; take another backup, this one cannot be restored")]
    Cut(u64),
    #[error("its keys cannot be used")]
    Keys(#[from] LockedTextError),
    #[error("it cannot be unlocked")]
    Unlock(#[from] UnlockError),
    #[error("it is damaged at byte {at}; take another backup, this one cannot be restored")]
    Damaged { at: u64, source: seal::OpenError },
    #[error("it makes no sense at byte {0}; take another backup, this one cannot be restored")]
    Senseless(u64),
}

/// Writes one, piece by piece. Without [`Writer::finish`] it is none.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    sealer: Sealer,
    place: Place,
    position: u64,
    length: u64,
}

impl<W: Write> Writer<W> {
    /// `version` is of the state, for whoever looks.
    pub fn begin(
        mut out: W,
        cluster: ClusterId,
        version: u64,
        taken_at: Timestamp,
        lock: Lock<'_>,
    ) -> Result<Writer<W>, WriteError> {
        let ring = KeyRing::make(cluster)?;
        let keys = ring.lock(lock)?.encode();
        out.write_all(&MAGIC)?;
        out.write_all(&FORMAT.to_le_bytes())?;
        out.write_all(&(keys.len() as u32).to_le_bytes())?;
        out.write_all(keys.as_bytes())?;
        let (sealer, place) = (Sealer::new(&ring), place(cluster));
        let mut writer = Writer { out, sealer, place, position: 0, length: 0 };
        writer.piece(BEGIN, &[version.to_le_bytes(), taken_at.0.to_le_bytes()].concat())?;
        Ok(writer)
    }

    pub fn data(&mut self, data: &[u8]) -> Result<(), WriteError> {
        for piece in data.chunks(MAX_PIECE as usize / 2) {
            self.piece(DATA, piece)?;
            self.length += piece.len() as u64;
        }
        Ok(())
    }

    /// Gives back what was written to; to make it durable is the caller's.
    pub fn finish(mut self) -> Result<W, WriteError> {
        self.piece(END, &self.length.to_le_bytes())?;
        Ok(self.out)
    }

    fn piece(&mut self, kind: u8, bytes: &[u8]) -> Result<(), WriteError> {
        let mut sealed = Vec::with_capacity(1 + bytes.len() + seal::OVERHEAD);
        let begun = self.sealer.begin(&mut sealed);
        sealed.push(kind);
        sealed.extend_from_slice(bytes);
        self.sealer.finish(begun, &self.place, self.position, &mut sealed)?;
        self.position += 1;
        self.out.write_all(&(sealed.len() as u32).to_le_bytes())?;
        Ok(self.out.write_all(&sealed)?)
    }
}

fn place(cluster: ClusterId) -> Place {
    Place::new(cluster, "backup")
}

/// Reads all of one. What is cut off, changed, or followed by anything is refused.
pub fn read(from: impl Read, unlock: Unlock<'_>) -> Result<Backup, ReadError> {
    let mut file = Counted { from, at: 0 };
    let mut magic = [0; 8];
    file.fill(&mut magic)?;
    if magic != MAGIC {
        return Err(ReadError::NotOurs);
    }
    let format = file.number()?;
    if format != FORMAT {
        return Err(ReadError::NewerVersion(format));
    }
    let keys = file.sized(MAX_KEYS)?;
    let keys = String::from_utf8(keys).map_err(|_| ReadError::Senseless(file.at))?;
    let ring = LockedKeys::decode(&keys)?.unlock(unlock)?;
    let (cluster, sealer) = (ring.cluster(), Sealer::new(&ring));
    let (mut taken_at, mut state) = (None, Vec::new());
    for position in 0.. {
        let at = file.at;
        let mut sealed = file.sized(MAX_PIECE)?;
        let opened = sealer.open(&place(cluster), position, &mut sealed);
        let opened = opened.map_err(|source| ReadError::Damaged { at, source })?;
        let (kind, bytes) = opened.split_first().ok_or(ReadError::Senseless(at))?;
        match (*kind, taken_at) {
            (BEGIN, None) => {
                let time = bytes.get(8..16).and_then(|time| time.try_into().ok());
                taken_at = Some(Timestamp(u64::from_le_bytes(time.ok_or(ReadError::Senseless(at))?)));
            }
            (DATA, Some(_)) => state.extend_from_slice(bytes),
            (END, Some(taken_at)) if bytes == (state.len() as u64).to_le_bytes() => {
                file.end()?;
                return Ok(Backup { cluster, taken_at, state: state.into() });
            }
            _ => return Err(ReadError::Senseless(at)),
        }
    }
    Err(ReadError::Senseless(file.at))
}

struct Counted<R> {
    from: R,
    at: u64,
}

impl<R: Read> Counted<R> {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), ReadError> {
        let read = self.from.read_exact(bytes);
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ReadError::Cut(self.at),
            _ => ReadError::Io(error),
        })?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn number(&mut self) -> Result<u32, ReadError> {
        let mut bytes = [0; 4];
        self.fill(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// A length, and so many bytes.
    fn sized(&mut self, most: u32) -> Result<Vec<u8>, ReadError> {
        let at = self.at;
        let length = self.number()?;
        if length > most {
            return Err(ReadError::Senseless(at));
        }
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn end(&mut self) -> Result<(), ReadError> {
        match self.from.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(ReadError::Senseless(self.at)),
            Err(error) => Err(ReadError::Io(error)),
        }
    }
}
