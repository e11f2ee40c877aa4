//! The 512-byte header block and its fields, in the variants of POSIX ustar and GNU tar.

use std::ops::Range;

use super::sparse::Extent;

pub(crate) const BLOCK: usize = 512;

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const KIND: usize = 156;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..263;
const PREFIX: Range<usize> = 345..500;
const GNU_SPARSE: Range<usize> = 386..482;
const GNU_MORE: usize = 482;
const GNU_REAL_SIZE: Range<usize> = 483..495;
const EXTENSION_SPARSE: Range<usize> = 0..504;
const EXTENSION_MORE: usize = 504;

/// A block whose checksum is right.
#[derive(Debug)]
pub(crate) struct Header([u8; BLOCK]);

impl Header {
    pub(crate) fn parse(block: [u8; BLOCK]) -> Option<Header> {
        let stated = number(&block[CHECKSUM])?;
        let masked =
            block.iter().enumerate().map(|(i, byte)| if CHECKSUM.contains(&i) { b' ' } else { *byte });
        // Some ancient writers summed signed bytes.
        let unsigned = masked.clone().map(i64::from).sum::<i64>();
        let signed = masked.map(|byte| i64::from(byte.cast_signed())).sum::<i64>();
        (stated == unsigned || stated == signed).then_some(Header(block))
    }

    pub(crate) fn kind(&self) -> u8 {
        self.0[KIND]
    }

    pub(crate) fn path(&self) -> Vec<u8> {
        let name = text(&self.0[NAME]);
        let prefix = text(&self.0[PREFIX]);
        // GNU's magic ("ustar  ") uses the prefix bytes for other things.
        if &self.0[MAGIC] == b"ustar\0" && !prefix.is_empty() {
            return [prefix, b"/", name].concat();
        }
        name.to_vec()
    }

    pub(crate) fn link(&self) -> Vec<u8> {
        text(&self.0[LINK]).to_vec()
    }

    pub(crate) fn size(&self) -> Option<u64> {
        unsigned(&self.0[SIZE])
    }

    pub(crate) fn real_size(&self) -> Option<u64> {
        unsigned(&self.0[GNU_REAL_SIZE])
    }

    /// Permission bits including setuid, setgid and sticky.
    pub(crate) fn mode(&self) -> Option<u32> {
        u32::try_from(number(&self.0[MODE])? & 0o7777).ok()
    }

    pub(crate) fn uid(&self) -> Option<u64> {
        unsigned(&self.0[UID])
    }

    pub(crate) fn gid(&self) -> Option<u64> {
        unsigned(&self.0[GID])
    }

    pub(crate) fn mtime(&self) -> Option<i64> {
        number(&self.0[MTIME])
    }

    /// The first extents of an old GNU sparse file, and whether extension blocks follow.
    pub(crate) fn sparse(&self) -> Option<(Vec<Extent>, bool)> {
        Some((extents(&self.0[GNU_SPARSE])?, self.0[GNU_MORE] != 0))
    }
}

pub(crate) fn sparse_extension(block: &[u8; BLOCK]) -> Option<(Vec<Extent>, bool)> {
    Some((extents(&block[EXTENSION_SPARSE])?, block[EXTENSION_MORE] != 0))
}

fn extents(bytes: &[u8]) -> Option<Vec<Extent>> {
    let pairs = bytes.chunks_exact(24).take_while(|pair| pair[0] != 0);
    pairs
        .map(|pair| Some(Extent { offset: unsigned(&pair[..12])?, length: unsigned(&pair[12..])? }))
        .collect()
}

fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn unsigned(field: &[u8]) -> Option<u64> {
    u64::try_from(number(field)?).ok()
}

/// Octal text, or base 256 when the first bit is set (GNU); blank is zero.
fn number(field: &[u8]) -> Option<i64> {
    if field[0] & 0x80 != 0 {
        return base_256(field);
    }
    let digits = field.iter().copied().skip_while(|byte| matches!(byte, b' ' | 0));
    let mut value = 0_i64;
    for byte in digits.take_while(|byte| !matches!(byte, b' ' | 0)) {
        if !(b'0'..=b'7').contains(&byte) {
            return None;
        }
        value = value.checked_mul(8)?.checked_add(i64::from(byte - b'0'))?;
    }
    Some(value)
}

fn base_256(field: &[u8]) -> Option<i64> {
    // Two's complement; the first bit is the mark and the second the sign.
    let negative = field[0] & 0x40 != 0;
    let mut value = if negative { -1_i128 } else { 0 };
    for (i, byte) in field.iter().enumerate() {
        let byte = match (i, negative) {
            (0, true) => *byte | 0x80,
            (0, false) => *byte & 0x7f,
            _ => *byte,
        };
        value = (value << 8) | i128::from(byte);
        i64::try_from(value).ok()?;
    }
    i64::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_every_notation() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"    644 ", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"0000648\0", None),
            (b"-000001\0", None),
            (&[0x80, 0, 0, 0, 0, 0, 1, 0], Some(256)),
            (&[0xff; 12], Some(-1)),
            (&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], None),
        ] {
            assert_eq!(number(field), expected, "{field:?}");
        }
    }
}
