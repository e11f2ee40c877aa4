//! Tells plain, gzip and zstd apart by their first bytes, and decompresses.

use std::io::{self, BufRead, BufReader, Read};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    Plain,
    Gzip,
    Zstd,
}

impl Compression {
    /// RFC 1952 section 2.3.1 and RFC 8878 section 3.1.1.
    fn of(first: &[u8]) -> Compression {
        match first {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            _ => Compression::Plain,
        }
    }

    /// The suffix of an OCI layer media type.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Compression::Plain => "",
            Compression::Gzip => "+gzip",
            Compression::Zstd => "+zstd",
        }
    }
}

/// Looks at the beginning without consuming it.
pub(crate) fn sniff(input: impl Read) -> io::Result<(Compression, impl BufRead)> {
    // `fill_buf` may return less than four bytes of a pipe, so the beginning is read on its own.
    let mut input = input;
    let mut first = Vec::new();
    input.by_ref().take(4).read_to_end(&mut first)?;
    let compression = Compression::of(&first);
    Ok((compression, BufReader::with_capacity(128 * 1024, io::Cursor::new(first).chain(input))))
}

/// The plain bytes of `input`, whatever it was compressed with.
pub(crate) fn decompress<'a>(input: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let (compression, input) = sniff(input)?;
    Ok(match compression {
        Compression::Plain => Box::new(input),
        // Layers of several gzip members are common (pigz, estargz).
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(input)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn every_compression_gives_the_same_bytes() {
        let text = b"the same bytes".repeat(1000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text).unwrap();
        let gzip = gzip.finish().unwrap();
        let zstd = zstd::encode_all(&text[..], 1).unwrap();
        let two_members = [gzip.clone(), gzip.clone()].concat();
        for (packed, expected) in
            [(text.clone(), &text), (gzip, &text), (zstd, &text), (two_members, &[&text[..], &text].concat())]
        {
            let mut plain = Vec::new();
            decompress(&packed[..]).unwrap().read_to_end(&mut plain).unwrap();
            assert_eq!(&plain, expected);
        }
        let mut nothing = Vec::new();
        decompress(io::empty()).unwrap().read_to_end(&mut nothing).unwrap();
        assert!(nothing.is_empty());
    }
}
