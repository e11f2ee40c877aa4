//! The path of an archive member, reduced to plain components, and what its name asks for.

use std::fmt;

use super::Refusal;

/// PATH_MAX, without its null (path_resolution(7)).
pub(super) const MAX_PATH_BYTES: usize = 4095;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const AUFS: &[u8] = b".wh..wh.";

/// Components joined by single slashes, without `.` and `..`, relative to the root of the layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EntryPath(Vec<u8>);

/// For a whiteout the path is that of the entry which it hides; for an opaque mark its name is the mark's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Root,
    Plain,
    Whiteout,
    Opaque,
    AufsBookkeeping,
}

impl EntryPath {
    /// A leading slash means the root of the layer, as in every other unpacker of layers.
    pub(super) fn parse(raw: &[u8]) -> Result<(EntryPath, Role), Refusal> {
        if raw.contains(&0) {
            return Err(Refusal::ZeroByte);
        }
        if raw.len() > MAX_PATH_BYTES {
            return Err(Refusal::TooLong);
        }
        let mut parts = Vec::new();
        for part in raw.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => return Err(Refusal::DotDot),
                part => parts.push(part),
            }
        }
        let Some((name, parents)) = parts.split_last() else {
            return Ok((EntryPath(Vec::new()), Role::Root));
        };
        if parents.iter().any(|part| part.starts_with(WHITEOUT)) {
            // Below an aufs bookkeeping directory everything is bookkeeping.
            let aufs = parents.iter().any(|part| part.starts_with(AUFS) && *part != OPAQUE);
            return if aufs {
                Ok((EntryPath::join(&parts), Role::AufsBookkeeping))
            } else {
                Err(Refusal::BadWhiteout)
            };
        }
        if *name == OPAQUE {
            return Ok((EntryPath::join(&parts), Role::Opaque));
        }
        if name.starts_with(AUFS) {
            return Ok((EntryPath::join(&parts), Role::AufsBookkeeping));
        }
        let Some(hidden) = name.strip_prefix(WHITEOUT) else {
            return Ok((EntryPath::join(&parts), Role::Plain));
        };
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(Refusal::BadWhiteout);
        }
        Ok((EntryPath::join(&[parents, &[hidden]].concat()), Role::Whiteout))
    }

    fn join(parts: &[&[u8]]) -> EntryPath {
        EntryPath(parts.join(&b'/'))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path of the directory that it is in, empty for the root, and its name there.
    pub(super) fn split(&self) -> (&[u8], &[u8]) {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&self.0[..slash], &self.0[slash + 1..]),
            None => (&[], &self.0),
        }
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_and_their_roles() {
        for (raw, expected) in [
            ("./", Ok(("", Role::Root))),
            ("/", Ok(("", Role::Root))),
            ("", Ok(("", Role::Root))),
            ("./a//b/./c/", Ok(("a/b/c", Role::Plain))),
            ("/etc/passwd", Ok(("etc/passwd", Role::Plain))),
            ("a/..b/c..", Ok(("a/..b/c..", Role::Plain))),
            ("a/.wh.b", Ok(("a/b", Role::Whiteout))),
            ("a/.wh..b", Ok(("a/.b", Role::Whiteout))),
            ("a/.wh..wh..opq", Ok(("a/.wh..wh..opq", Role::Opaque))),
            (".wh..wh.aufs", Ok((".wh..wh.aufs", Role::AufsBookkeeping))),
            (".wh..wh.plnk/1.2", Ok((".wh..wh.plnk/1.2", Role::AufsBookkeeping))),
            ("..", Err(Refusal::DotDot)),
            ("a/../b", Err(Refusal::DotDot)),
            ("/../etc/shadow", Err(Refusal::DotDot)),
            ("a\0b", Err(Refusal::ZeroByte)),
            ("a/.wh.", Err(Refusal::BadWhiteout)),
            ("a/.wh..", Err(Refusal::BadWhiteout)),
            ("a/.wh...", Err(Refusal::BadWhiteout)),
            (".wh.a/b", Err(Refusal::BadWhiteout)),
        ] {
            let parsed = EntryPath::parse(raw.as_bytes());
            let seen = parsed.as_ref().map(|(path, role)| (path.to_string(), *role)).map_err(Clone::clone);
            assert_eq!(seen, expected.map(|(path, role)| (path.to_owned(), role)), "{raw:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_climbs_is_left(raw in "[./a\\x00wh]{0,30}") {
            if let Ok((path, _)) = EntryPath::parse(raw.as_bytes()) {
                let good = |part: &[u8]| !part.is_empty() && part != b"." && part != b".." && !part.contains(&0);
                prop_assert!(path.bytes().is_empty() || path.bytes().split(|b| *b == b'/').all(good));
            }
        }
    }
}
