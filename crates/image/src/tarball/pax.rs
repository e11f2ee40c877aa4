//! PAX extended header records: `length key=value\n`, the length counting itself.

use super::sparse::{Extent, Sparse, pairs};

/// The records that say something about a file system entry.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) mtime: Option<(i64, u32)>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) sparse: Option<Sparse>,
}

impl Records {
    /// `None` if a record is malformed. An empty value takes a record back, as POSIX says.
    pub(crate) fn parse(mut bytes: &[u8]) -> Option<Records> {
        let mut records = Records::default();
        while !bytes.is_empty() {
            let space = bytes.iter().position(|byte| *byte == b' ')?;
            let length = usize::try_from(decimal(&bytes[..space])?).ok()?;
            let (record, rest) = bytes.split_at_checked(length)?;
            let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|byte| *byte == b'=')?;
            records.apply(&record[..equals], &record[equals + 1..])?;
            bytes = rest;
        }
        Some(records)
    }

    fn apply(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            self.xattrs.push((name.to_vec(), value.to_vec()));
            return Some(());
        }
        if let Some(field) = key.strip_prefix(b"GNU.sparse.") {
            return self.apply_sparse(field, value);
        }
        let given = !value.is_empty();
        match key {
            b"path" => self.path = given.then(|| value.to_vec()),
            b"linkpath" => self.link = given.then(|| value.to_vec()),
            b"size" => self.size = if given { Some(decimal(value)?) } else { None },
            b"uid" => self.uid = if given { Some(decimal(value)?) } else { None },
            b"gid" => self.gid = if given { Some(decimal(value)?) } else { None },
            b"mtime" => self.mtime = if given { Some(time(value)?) } else { None },
            // Times of access and change, owner names, vendors' own: they do not change what is unpacked.
            _ => {}
        }
        Some(())
    }

    fn apply_sparse(&mut self, field: &[u8], value: &[u8]) -> Option<()> {
        let sparse = self.sparse.get_or_insert_default();
        match field {
            b"name" => sparse.name = Some(value.to_vec()),
            b"size" | b"realsize" => sparse.real_size = decimal(value)?,
            // Version 0.1: all in one record.
            b"map" => {
                let numbers: Option<Vec<u64>> = value.split(|byte| *byte == b',').map(decimal).collect();
                sparse.map = Some(pairs(&numbers?)?);
            }
            // Version 0.0: one record each, in turn.
            b"offset" => {
                let extent = Extent { offset: decimal(value)?, length: 0 };
                sparse.map.get_or_insert_default().push(extent);
            }
            b"numbytes" => sparse.map.as_mut()?.last_mut()?.length = decimal(value)?,
            _ => {}
        }
        Some(())
    }
}

/// Digits and nothing else: no sign, no blank.
pub(super) fn decimal(bytes: &[u8]) -> Option<u64> {
    let digits = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(bytes).ok().filter(|_| digits)?.parse().ok()
}

/// Seconds with an optional fraction, such as `1350244992.023960108` or `-1.5`.
fn time(bytes: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let mut nanos = 0_u32;
    for digit in digits {
        nanos = nanos * 10 + char::from(digit).to_digit(10)?;
    }
    // The fraction of a time before 1970 counts away from zero; a timespec counts up.
    if whole.starts_with('-') && nanos > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_values_keep_their_newlines() {
        let records = Records::parse(b"31 SCHILY.xattr.user.a=x\ny=1\nz\n12 path=a\nb\n").unwrap();
        assert_eq!(records.xattrs, [(b"user.a".to_vec(), b"x\ny=1\nz".to_vec())]);
        assert_eq!(records.path, Some(b"a\nb".to_vec()));
    }

    #[test]
    fn malformed_records_are_refused() {
        for bytes in
            [&b"9 path=a"[..], b"x path=a\n", b"99 path=a\n", b"9 path a\n", b"10 size=-1\n", b"0 path=a\n"]
        {
            assert!(Records::parse(bytes).is_none(), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn times_with_fractions() {
        for (text, expected) in [
            (&b"12"[..], Some((12, 0))),
            (b"12.5", Some((12, 500_000_000))),
            (b"12.0239601081", Some((12, 23_960_108))),
            (b"-1.5", Some((-2, 500_000_000))),
            (b"1.x", None),
            (b"", None),
        ] {
            assert_eq!(time(text), expected);
        }
    }
}
