//! The bytes of a tar stream, block by block: headers within a budget, and the stored data of one member at a time.

use std::io::{self, Read};

use super::TarError;
use super::header::{BLOCK, Header};

/// Names, attributes and sparse maps of one member together.
const MAX_HEADER_BYTES: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Stream<R> {
    input: R,
    position: u64,
    /// Stored bytes of the current member that were not read yet, and the padding that follows them.
    stored_left: u64,
    padding: u64,
    header_left: u64,
}

impl<R: Read> Stream<R> {
    pub(super) fn new(input: R) -> Stream<R> {
        Stream { input, position: 0, stored_left: 0, padding: 0, header_left: 0 }
    }

    /// How many bytes were read, for errors.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn stored_left(&self) -> u64 {
        self.stored_left
    }

    /// Skips what was not read of the current member; the next one has a budget of its own.
    pub(super) fn end_member(&mut self) -> Result<(), TarError> {
        self.skip(self.stored_left)?;
        self.stored_left = 0;
        self.skip_padding()?;
        self.header_left = MAX_HEADER_BYTES;
        Ok(())
    }

    /// One header block; `None` at the end of the archive, marked or not.
    pub(super) fn header(&mut self) -> Result<Option<Header>, TarError> {
        let at = self.position;
        self.charge_header(at, BLOCK as u64)?;
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.read_some(&mut block[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(TarError::Truncated),
                n => filled += n,
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        Header::parse(block).ok_or(TarError::NotAHeader { at }).map(Some)
    }

    /// The data of an extension header, whole.
    pub(super) fn extension(&mut self, at: u64, size: u64) -> Result<Vec<u8>, TarError> {
        self.charge_header(at, size)?;
        self.begin_data(at, size)?;
        // At most MAX_HEADER_BYTES, as just charged.
        let mut bytes = vec![0; usize::try_from(size).map_err(|_| TarError::HeaderTooLarge { at })?];
        self.read_exact(&mut bytes)?;
        self.stored_left = 0;
        self.skip_padding()?;
        Ok(bytes)
    }

    /// A block that continues a header.
    pub(super) fn header_block(&mut self, at: u64) -> Result<[u8; BLOCK], TarError> {
        let mut block = [0; BLOCK];
        self.charge_header(at, BLOCK as u64)?;
        self.read_exact(&mut block)?;
        Ok(block)
    }

    /// A block of the stored data that is a header by its meaning.
    pub(super) fn header_block_in_data(&mut self, at: u64) -> Result<[u8; BLOCK], TarError> {
        let block = self.header_block(at)?;
        let left = self.stored_left.checked_sub(BLOCK as u64);
        self.stored_left = left.ok_or(TarError::Malformed { at, field: "sparse map" })?;
        Ok(block)
    }

    /// From here on come `size` stored bytes and their padding.
    pub(super) fn begin_data(&mut self, at: u64, size: u64) -> Result<(), TarError> {
        let padded = size.checked_next_multiple_of(BLOCK as u64);
        self.padding = padded.ok_or(TarError::Malformed { at, field: "size" })? - size;
        self.stored_left = size;
        Ok(())
    }

    /// Reads stored bytes of the current member; 0 at its end.
    pub(super) fn read_stored(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let want = buffer.len().min(usize::try_from(self.stored_left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let n = self.read_some(&mut buffer[..want])?;
        if n == 0 {
            return Err(TarError::Truncated);
        }
        self.stored_left -= n as u64;
        Ok(n)
    }

    pub(super) fn drain(&mut self) -> Result<(), TarError> {
        let mut buffer = vec![0; 64 * 1024];
        while self.read_some(&mut buffer)? > 0 {}
        Ok(())
    }

    fn charge_header(&mut self, at: u64, bytes: u64) -> Result<(), TarError> {
        self.header_left = self.header_left.checked_sub(bytes).ok_or(TarError::HeaderTooLarge { at })?;
        Ok(())
    }

    fn skip(&mut self, bytes: u64) -> Result<(), TarError> {
        let mut buffer = [0; 8 * 1024];
        let mut left = bytes;
        while left > 0 {
            let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            match self.read_some(&mut buffer[..want])? {
                0 => return Err(TarError::Truncated),
                n => left -= n as u64,
            }
        }
        Ok(())
    }

    fn skip_padding(&mut self) -> Result<(), TarError> {
        let padding = std::mem::take(&mut self.padding);
        self.skip(padding)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_some(&mut buffer[filled..])? {
                0 => return Err(TarError::Truncated),
                n => filled += n,
            }
        }
        Ok(())
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        loop {
            match self.input.read(buffer) {
                Ok(n) => {
                    self.position += n as u64;
                    return Ok(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Decompressors say this when their input stops too early.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(TarError::Truncated);
                }
                Err(error) => return Err(TarError::Read(error)),
            }
        }
    }
}
