//! A reader of tar streams: ustar, PAX and GNU, one member after the other, in bounded memory.
//!
//! The `tar` crate splits PAX records at newlines and so loses binary attribute values (`security.capability` holds
//! a 0x0a byte in every tenth file), reads long names of any length into memory, and does not know PAX sparse files.
//! This reader takes records by their stated length (POSIX pax, "Extended Header"), allows 1 MiB of headers per
//! member, and gives sparse files as extents, so that holes stay holes.
//!
//! It reads only; what a member may do to a file system is decided in `unpack`. Start at [`Members::next`].

mod header;
mod pax;

use std::io::{self, Read};

use header::{BLOCK, Header};
use pax::Records;

/// Names, attributes and sparse maps of one member together.
const MAX_HEADER_BYTES: u64 = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    CharDevice,
    BlockDevice,
    Fifo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// As written in the archive, not yet trusted.
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Kind,
    /// The size of the file once written, holes included; 0 for everything else.
    pub(crate) size: u64,
    /// Where the stored bytes go, ascending and without overlap.
    pub(crate) extents: Vec<Extent>,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) mtime_s: i64,
    pub(crate) mtime_ns: u32,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug, thiserror::Error)]
pub enum TarError {
    #[error("the stream cannot be read or decompressed")]
    Read(#[source] io::Error),
    #[error("the stream ends in the middle of a member; it was cut off on the way")]
    Truncated,
    #[error("there is no tar header at byte {at}; this is not a tar stream, or it is damaged")]
    NotAHeader { at: u64 },
    #[error("the tar header at byte {at} has a bad {field}")]
    Malformed { at: u64, field: &'static str },
    #[error(
        "the tar header at byte {at} is larger than 1 MiB; no honest archive has such names or attributes"
    )]
    HeaderTooLarge { at: u64 },
    #[error("the tar member at byte {at} has type {:?}, which has no meaning in an image", char::from(*.kind))]
    UnknownKind { at: u64, kind: u8 },
}

/// The members of a tar stream.
#[derive(Debug)]
pub(crate) struct Members<R> {
    input: R,
    position: u64,
    /// Stored bytes of the current member that were not read yet, and the padding that follows them.
    stored_left: u64,
    padding: u64,
    header_left: u64,
}

/// Extension headers seen before the member that they describe.
#[derive(Default)]
struct Extensions {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax: Records,
    any: bool,
}

impl<R: Read> Members<R> {
    pub(crate) fn new(input: R) -> Members<R> {
        Members { input, position: 0, stored_left: 0, padding: 0, header_left: 0 }
    }

    /// The next member; `None` at the end. Data of the member before that was not read is skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Member>, TarError> {
        self.skip(self.stored_left)?;
        self.skip_padding()?;
        self.header_left = MAX_HEADER_BYTES;
        let mut extensions = Extensions::default();
        loop {
            let at = self.position;
            let Some(header) = self.read_header()? else {
                // An extension that describes nothing means that the end is missing.
                return if extensions.any { Err(TarError::Truncated) } else { Ok(None) };
            };
            let size = header.size().ok_or(TarError::Malformed { at, field: "size" })?;
            match header.kind() {
                b'L' => extensions.long_name = Some(until_nul(self.read_extension(at, size)?)),
                b'K' => extensions.long_link = Some(until_nul(self.read_extension(at, size)?)),
                b'x' => {
                    let bytes = self.read_extension(at, size)?;
                    extensions.pax =
                        Records::parse(&bytes).ok_or(TarError::Malformed { at, field: "PAX record" })?;
                }
                // Defaults for all members: comments in practice (git archive). Go's reader, which other image
                // tools use, does not apply them either, and two readings of one layer must not differ.
                b'g' => drop(self.read_extension(at, size)?),
                _ => return self.finish_member(at, &header, size, extensions).map(Some),
            }
            extensions.any |= header.kind() != b'g';
        }
    }

    /// Reads stored bytes of the current member; 0 at its end.
    pub(crate) fn read_stored(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
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

    /// Reads to the very end of the stream, past the end-of-archive mark, so that all of it was seen by a hash.
    pub(crate) fn drain(&mut self) -> Result<(), TarError> {
        let mut buffer = vec![0; 64 * 1024];
        while self.read_some(&mut buffer)? > 0 {}
        Ok(())
    }

    fn finish_member(
        &mut self,
        at: u64,
        header: &Header,
        size: u64,
        extensions: Extensions,
    ) -> Result<Member, TarError> {
        let Extensions { long_name, long_link, mut pax, any: _ } = extensions;
        let malformed = |field| TarError::Malformed { at, field };
        let path = pax.path.take().or(long_name).unwrap_or_else(|| header.path());
        let link = pax.link.take().or(long_link).unwrap_or_else(|| header.link());
        let kind = match header.kind() {
            // Before ustar a directory was a file whose name ends in a slash.
            0 if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            kind => return Err(TarError::UnknownKind { at, kind }),
        };
        // Only files have data. Go's reader takes a size on anything else as meaningless, and so is it here.
        let stored = if kind == Kind::File { pax.size.unwrap_or(size) } else { 0 };
        self.expect_data(stored).ok_or(malformed("size"))?;
        let mut member = Member {
            path,
            link,
            kind,
            size: stored,
            extents: vec![Extent { offset: 0, length: stored }],
            mode: header.mode().ok_or(malformed("mode"))?,
            uid: pax.uid.or_else(|| header.uid()).ok_or(malformed("uid"))?,
            gid: pax.gid.or_else(|| header.gid()).ok_or(malformed("gid"))?,
            mtime_s: 0,
            mtime_ns: 0,
            xattrs: std::mem::take(&mut pax.xattrs),
        };
        let mtime = pax.mtime.or_else(|| header.mtime().map(|s| (s, 0)));
        (member.mtime_s, member.mtime_ns) = mtime.ok_or(malformed("mtime"))?;
        if header.kind() == b'S' {
            member.size = header.real_size().ok_or(malformed("real size"))?;
            member.extents = self.read_gnu_map(at, header)?;
        } else if let Some(sparse) = pax.sparse {
            member.path = sparse.name.unwrap_or(member.path);
            member.size = sparse.real_size;
            member.extents = match sparse.map {
                Some(map) => map,
                None => self.read_pax_map(at)?,
            };
        }
        if !extents_fit(&member.extents, self.stored_left, member.size) {
            return Err(malformed("sparse map"));
        }
        Ok(member)
    }

    fn read_gnu_map(&mut self, at: u64, header: &Header) -> Result<Vec<Extent>, TarError> {
        let malformed = TarError::Malformed { at, field: "sparse map" };
        let Some((mut extents, mut more)) = header.sparse() else { return Err(malformed) };
        while more {
            let mut block = [0; BLOCK];
            self.charge_header(at, BLOCK as u64)?;
            self.read_exact(&mut block)?;
            let Some((further, again)) = header::sparse_extension(&block) else { return Err(malformed) };
            extents.extend(further);
            more = again;
        }
        Ok(extents)
    }

    /// PAX sparse format 1.0: the map is text at the start of the data, padded to a block.
    fn read_pax_map(&mut self, at: u64) -> Result<Vec<Extent>, TarError> {
        let mut map = pax::MapReader::default();
        loop {
            let mut block = [0; BLOCK];
            self.charge_header(at, BLOCK as u64)?;
            self.read_exact(&mut block)?;
            self.stored_left = self
                .stored_left
                .checked_sub(BLOCK as u64)
                .ok_or(TarError::Malformed { at, field: "sparse map" })?;
            match map.push(&block) {
                pax::MapText::Whole(extents) => return Ok(extents),
                pax::MapText::Unfinished => {}
                pax::MapText::Bad => return Err(TarError::Malformed { at, field: "sparse map" }),
            }
        }
    }

    /// One header block; `None` at the end of the archive, marked or not.
    fn read_header(&mut self) -> Result<Option<Header>, TarError> {
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

    fn read_extension(&mut self, at: u64, size: u64) -> Result<Vec<u8>, TarError> {
        self.charge_header(at, size)?;
        self.expect_data(size).ok_or(TarError::Malformed { at, field: "size" })?;
        // At most MAX_HEADER_BYTES, as just charged.
        let mut bytes = vec![0; usize::try_from(size).map_err(|_| TarError::HeaderTooLarge { at })?];
        self.read_exact(&mut bytes)?;
        self.stored_left = 0;
        self.skip_padding()?;
        Ok(bytes)
    }

    fn charge_header(&mut self, at: u64, bytes: u64) -> Result<(), TarError> {
        self.header_left = self.header_left.checked_sub(bytes).ok_or(TarError::HeaderTooLarge { at })?;
        Ok(())
    }

    fn expect_data(&mut self, size: u64) -> Option<()> {
        self.padding = size.checked_next_multiple_of(BLOCK as u64)? - size;
        self.stored_left = size;
        Some(())
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
        self.stored_left = 0;
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

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
    bytes
}

/// Ascending, without overlap, inside the file, and holding exactly what is stored.
fn extents_fit(extents: &[Extent], stored: u64, size: u64) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What GNU tar makes of a file with a hole, in every notation it has.
    fn sparse_tar(format: &[&str]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(dir.path().join("holes")).unwrap();
        for offset in [0, 1 << 20, 5 << 20] {
            std::os::unix::fs::FileExt::write_all_at(&file, b"data", offset).unwrap();
        }
        file.set_len(8 << 20).unwrap();
        let mut command = std::process::Command::new("tar");
        command.arg("--sparse").args(format).arg("-C").arg(dir.path()).args(["-cf", "-", "holes"]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    #[test]
    fn holes_stay_holes_in_every_notation() {
        for format in [
            &["--format=gnu"][..],
            &["--format=pax", "--sparse-version=0.0"],
            &["--format=pax", "--sparse-version=0.1"],
            &["--format=pax", "--sparse-version=1.0"],
        ] {
            let bytes = sparse_tar(format);
            let mut members = Members::new(&bytes[..]);
            let member = members.next().unwrap().unwrap();
            assert_eq!((String::from_utf8(member.path).unwrap().as_str(), member.size), ("holes", 8 << 20));
            let mut content = vec![0; 8 << 20];
            let stored: u64 = member.extents.iter().map(|extent| extent.length).sum();
            assert!(stored < 1 << 20, "{format:?}: {stored} bytes of a sparse file are stored");
            for extent in member.extents {
                let start = usize::try_from(extent.offset).unwrap();
                let end = start + usize::try_from(extent.length).unwrap();
                let mut at = start;
                while at < end {
                    at += members.read_stored(&mut content[at..end]).unwrap();
                }
            }
            assert_eq!(members.read_stored(&mut [0; 1]).unwrap(), 0);
            let data: Vec<usize> = (0..content.len()).filter(|i| content[*i] == b'd').collect();
            assert_eq!(data, [0, 1 << 20, 5 << 20], "{format:?}");
            assert!(members.next().unwrap().is_none());
        }
    }

    fn read_all(bytes: &[u8]) -> Result<usize, TarError> {
        let mut members = Members::new(bytes);
        let mut count = 0;
        while let Some(member) = members.next()? {
            let stored: u64 = member.extents.iter().map(|extent| extent.length).sum();
            assert!(stored <= bytes.len() as u64 || members.skip(stored).is_err());
            count += 1;
        }
        Ok(count)
    }

    proptest! {
        /// Damage gives an error or another archive, never a panic, an endless loop or memory without bound.
        #[test]
        fn damaged_archives_are_survived(
            damage in proptest::collection::vec((0_usize..3072, any::<u8>()), 0..6),
            cut in 0_usize..6000,
        ) {
            static SPARSE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
            let sparse = SPARSE.get_or_init(|| sparse_tar(&["--format=pax", "--sparse-version=1.0"]));
            let mut bytes = sparse.clone();
            for (at, value) in damage {
                bytes[at] = value;
            }
            // Repairs the checksums, so that the damage gets past them.
            for block in bytes.chunks_exact_mut(512).take(6).filter(|block| &block[257..262] == b"ustar") {
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
            let _ = read_all(&bytes);
            bytes.truncate(cut);
            let _ = read_all(&bytes);
        }
    }
}
