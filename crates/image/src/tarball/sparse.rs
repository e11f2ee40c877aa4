//! The maps of sparse files, in GNU tar's old notation and its three PAX notations.

use std::io::Read;

use super::TarError;
use super::header::{self, Header};
use super::pax::decimal;
use super::stream::Stream;

/// A run of stored bytes and where in the file it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// A sparse file in one of GNU tar's PAX notations.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: u64,
    /// `None` in version 1.0, where the map begins the data.
    pub(super) map: Option<Vec<Extent>>,
}

/// The map of the old notation: in the header, and in blocks that follow it.
pub(super) fn read_gnu_map(
    stream: &mut Stream<impl Read>,
    at: u64,
    header: &Header,
) -> Result<Vec<Extent>, TarError> {
    let malformed = || TarError::Malformed { at, field: "sparse map" };
    let (mut extents, mut more) = header.sparse().ok_or_else(malformed)?;
    while more {
        let block = stream.header_block(at)?;
        let (further, again) = header::sparse_extension(&block).ok_or_else(malformed)?;
        extents.extend(further);
        more = again;
    }
    Ok(extents)
}

/// The map of PAX version 1.0: text at the start of the data, padded to a block.
pub(super) fn read_pax_map(stream: &mut Stream<impl Read>, at: u64) -> Result<Vec<Extent>, TarError> {
    let mut map = MapReader::default();
    loop {
        match map.push(&stream.header_block_in_data(at)?) {
            MapText::Whole(extents) => return Ok(extents),
            MapText::Unfinished => {}
            MapText::Bad => return Err(TarError::Malformed { at, field: "sparse map" }),
        }
    }
}

/// Ascending, without overlap, inside the file, and holding exactly what is stored.
pub(super) fn extents_fit(extents: &[Extent], stored: u64, size: u64) -> bool {
    let mut end = 0_u64;
    let mut sum = 0_u64;
    for extent in extents {
        let Some(next) = extent.offset.checked_add(extent.length) else { return false };
        if extent.offset < end || next > size {
            return false;
        }
        end = next;
        sum += extent.length;
    }
    sum == stored
}

/// How far the text of a version 1.0 map has been read.
#[derive(Debug, PartialEq, Eq)]
enum MapText {
    Whole(Vec<Extent>),
    Unfinished,
    Bad,
}

/// Collects a version 1.0 map: the number of extents, then offset and length of each, one number a line.
#[derive(Debug, Default)]
struct MapReader {
    text: Vec<u8>,
    whole_lines: usize,
    /// Lines of the whole map, once the first one was read.
    needed: Option<usize>,
}

impl MapReader {
    /// Takes the next piece. Each byte is looked at once, however long a hostile map is.
    fn push(&mut self, piece: &[u8]) -> MapText {
        self.text.extend_from_slice(piece);
        self.whole_lines += piece.iter().filter(|byte| **byte == b'\n').count();
        let needed = match self.needed {
            Some(needed) => needed,
            // The first number fits any first piece, which is a block.
            None => match self.read_count() {
                Some(needed) => needed,
                None => return MapText::Bad,
            },
        };
        self.needed = Some(needed);
        if self.whole_lines < needed {
            return MapText::Unfinished;
        }
        let lines = self.text.split(|byte| *byte == b'\n').take(needed).skip(1);
        let numbers: Option<Vec<u64>> = lines.map(decimal).collect();
        numbers.and_then(|numbers| pairs(&numbers)).map_or(MapText::Bad, MapText::Whole)
    }

    fn read_count(&self) -> Option<usize> {
        let end = self.text.iter().position(|byte| *byte == b'\n')?;
        usize::try_from(decimal(&self.text[..end])?).ok()?.checked_mul(2)?.checked_add(1)
    }
}

pub(super) fn pairs(numbers: &[u64]) -> Option<Vec<Extent>> {
    if !numbers.len().is_multiple_of(2) {
        return None;
    }
    Some(numbers.chunks_exact(2).map(|pair| Extent { offset: pair[0], length: pair[1] }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_read_once_it_is_whole() {
        let extents = vec![Extent { offset: 0, length: 5 }, Extent { offset: 4096, length: 7 }];
        let mut reader = MapReader::default();
        assert_eq!(reader.push(b"2\n0\n5\n40"), MapText::Unfinished);
        assert_eq!(reader.push(b"96\n7\n\0\0"), MapText::Whole(extents));
        assert_eq!(MapReader::default().push(b"0\n"), MapText::Whole(vec![]));
        assert_eq!(MapReader::default().push(b"2\nzero\n5\n1\n1\n"), MapText::Bad);
        assert_eq!(MapReader::default().push(&[b'1'; 64]), MapText::Bad);
    }
}
