//! The readers that compute the digest of what passes through them.

use std::io::{self, Read};

use reference::Digest;
use sha2::{Digest as _, Sha256};

/// Computes a digest piece by piece, and counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hasher {
    hash: Sha256,
    count: u64,
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.count += bytes.len() as u64;
    }

    /// The digest and number of the bytes seen.
    pub(crate) fn finish(self) -> (Digest, u64) {
        (Digest::of_hash(self.hash.finalize().into()), self.count)
    }
}

/// Passes bytes through and remembers their digest.
#[derive(Debug)]
pub(crate) struct Hashing<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Hashing<R> {
    pub(crate) fn new(inner: R) -> Hashing<R> {
        Hashing { inner, hasher: Hasher::default() }
    }

    pub(crate) fn finish(self) -> (Digest, u64) {
        self.hasher.finish()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_through_is_hashed_and_counted() {
        let mut through = Hashing::new(&b"wharf"[..]);
        io::copy(&mut through, &mut io::sink()).unwrap();
        assert_eq!(through.finish(), (Digest::of(b"wharf"), 5));
    }
}
