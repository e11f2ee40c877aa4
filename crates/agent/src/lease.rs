//! The lease where others find it: the keepers of containers that run only under it, and the next agent.
//!
//! A small file beside the runtime's state, written in place for as long as this node is heard: when what needs the lease
//! is killed (eight bytes, as [`runtime::StartRequest::deadline`] says), and during which run of the host that time counts.
//! Keepers hold it open, so it is never replaced. It need not survive the host: after its restart nothing runs, and what
//! needs a lease starts under a new one. So nothing is synced.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use model::{Millis, Settings, Timestamp};

use crate::clock::{BOOT_ID, BootTime, Clock};

const TIME_BYTES: usize = 8;

#[derive(Debug)]
pub(crate) struct LeaseFile {
    file: File,
    clock: Clock,
}

impl LeaseFile {
    /// Also gives until when the last lease goes that an earlier agent was given in this run of the host.
    pub(crate) fn open(path: &Path, clock: Clock) -> io::Result<(LeaseFile, Option<Timestamp>)> {
        LeaseFile::open_in(path, clock, std::fs::read_to_string(BOOT_ID)?.trim())
    }

    fn open_in(path: &Path, clock: Clock, boot: &str) -> io::Result<(LeaseFile, Option<Timestamp>)> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let lease = LeaseFile { file, clock };
        let mut known = vec![0; TIME_BYTES + boot.len()];
        if lease.file.read_exact_at(&mut known, 0).is_ok() && known[TIME_BYTES..] == *boot.as_bytes() {
            let mut bytes = [0; TIME_BYTES];
            bytes.copy_from_slice(&known[..TIME_BYTES]);
            let kill_at = clock.at(BootTime(Millis(u64::from_le_bytes(bytes))));
            return Ok((lease, Some(Timestamp(kill_at.0.saturating_sub(Settings::LEASE_GRACE.0)))));
        }
        lease.file.write_all_at(&[&[0; TIME_BYTES], boot.as_bytes()].concat(), 0)?;
        Ok((lease, None))
    }

    /// Before anything counts on it.
    pub(crate) fn renew(&self, until: Timestamp) -> io::Result<()> {
        let BootTime(kill_at) = self.clock.boot_time(until + Settings::LEASE_GRACE);
        self.file.write_all_at(&kill_at.0.to_le_bytes(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_known_to_the_next_agent_but_not_after_a_restart_of_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lease");
        let clock = Clock::open(&dir.path().join("clock"), None).unwrap();
        let (first, known) = LeaseFile::open_in(&path, clock, "boot-1").unwrap();
        assert_eq!(known, None);
        let until = clock.now() + Millis::from_secs(15);
        first.renew(until).unwrap();
        let (_, known) = LeaseFile::open_in(&path, clock, "boot-1").unwrap();
        assert_eq!(known, Some(until));
        // Keepers have the same file open.
        assert_eq!(first.file.metadata().unwrap().len(), 8 + 6);
        let (_, known) = LeaseFile::open_in(&path, clock, "boot-2").unwrap();
        assert_eq!(known, None);
        let (_, known) = LeaseFile::open_in(&path, clock, "boot-2").unwrap();
        assert!(known.is_some_and(|until| until < clock.now()), "{known:?}");
    }
}
