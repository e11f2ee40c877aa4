//! The story of a run: a hash of every line always, the lines themselves when somebody wants to read them.

use std::fmt::{self, Write as _};

use model::Timestamp;

/// When every run begins: an ordinary day, so that nothing may count on small numbers.
pub(crate) const BEGINNING: Timestamp = Timestamp(1_700_000_000_000);

#[derive(Debug)]
pub(crate) struct Trace {
    hash: Fnv,
    lines: Option<Vec<String>>,
}

/// FNV-1a, 64 bits. Source: draft-eastlake-fnv.
#[derive(Clone, Copy, Debug)]
struct Fnv(u64);

impl fmt::Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(())
    }
}

impl Trace {
    pub(crate) fn new(keeps_lines: bool) -> Trace {
        Trace { hash: Fnv(0xcbf2_9ce4_8422_2325), lines: keeps_lines.then(Vec::new) }
    }

    pub(crate) fn say(&mut self, now: Timestamp, what: fmt::Arguments<'_>) {
        let since = now.since(BEGINNING).0;
        // Neither of these writers can fail.
        let _ = writeln!(self.hash, "{since} {what}");
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>4}.{:03} {what}", since / 1_000, since % 1_000));
        }
    }

    pub(crate) fn finish(self) -> (u64, Vec<String>) {
        (self.hash.0, self.lines.unwrap_or_default())
    }
}
