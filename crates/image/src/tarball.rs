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
mod sparse;
mod stream;

use std::io::{self, Read};

use header::Header;
use pax::Records;
pub(crate) use sparse::Extent;
use stream::Stream;

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
    stream: Stream<R>,
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
        Members { stream: Stream::new(input) }
    }

    /// The next member; `None` at the end. Data of the member before that was not read is skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Member>, TarError> {
        self.stream.end_member()?;
        let mut extensions = Extensions::default();
        loop {
            let at = self.stream.position();
            let Some(header) = self.stream.header()? else {
                // An extension that describes nothing means that the end is missing.
                return if extensions.any { Err(TarError::Truncated) } else { Ok(None) };
            };
            let size = header.size().ok_or(TarError::Malformed { at, field: "size" })?;
            match header.kind() {
                b'L' => extensions.long_name = Some(until_nul(self.stream.extension(at, size)?)),
                b'K' => extensions.long_link = Some(until_nul(self.stream.extension(at, size)?)),
                b'x' => {
                    let bytes = self.stream.extension(at, size)?;
                    extensions.pax =
                        Records::parse(&bytes).ok_or(TarError::Malformed { at, field: "PAX record" })?;
                }
                // Defaults for all members: comments in practice (git archive). Go's reader, which other image
                // tools use, does not apply them either, and two readings of one layer must not differ.
                b'g' => drop(self.stream.extension(at, size)?),
                _ => return self.finish_member(at, &header, size, extensions).map(Some),
            }
            extensions.any |= header.kind() != b'g';
        }
    }

    /// Reads stored bytes of the current member; 0 at its end.
    pub(crate) fn read_stored(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        self.stream.read_stored(buffer)
    }

    /// Reads to the very end of the stream, past the end-of-archive mark, so that all of it was seen by a hash.
    pub(crate) fn drain(&mut self) -> Result<(), TarError> {
        self.stream.drain()
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
        self.stream.begin_data(at, stored)?;
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
            member.extents = sparse::read_gnu_map(&mut self.stream, at, header)?;
        } else if let Some(sparse) = pax.sparse {
            member.path = sparse.name.unwrap_or(member.path);
            member.size = sparse.real_size;
            member.extents = match sparse.map {
                Some(map) => map,
                None => sparse::read_pax_map(&mut self.stream, at)?,
            };
        }
        if !sparse::extents_fit(&member.extents, self.stream.stored_left(), member.size) {
            return Err(malformed("sparse map"));
        }
        Ok(member)
    }
}

/// A name from an archive as messages tell it: its beginning, if somebody made it longer than anybody reads.
pub(crate) fn shown(name: &[u8]) -> String {
    const MOST: usize = 255;
    match name.get(..MOST) {
        Some(beginning) if name.len() > MOST => format!("{}...", String::from_utf8_lossy(beginning)),
        _ => String::from_utf8_lossy(name).into_owned(),
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
    bytes
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
            assert!(stored <= bytes.len() as u64 || members.next().is_err());
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
