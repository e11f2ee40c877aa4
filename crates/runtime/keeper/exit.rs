//! The exit record: how the container ended, written so that a crash of the host's agent, or of the host, keeps it.
//!
//! The record is text of a fixed length in `exit.tmp`, which the launcher wrote full of newlines beforehand: a disk that
//! filled up meanwhile has room for it all the same. It is synced and then renamed to `exit`, so whoever sees `exit`
//! sees all of it. `crates/runtime/src/record.rs` reads it.

use crate::sys;
use crate::text::{Text, value_of};

/// Must be what the launcher reserves; see `RECORD_BYTES` in `record.rs`.
const RECORD: usize = 512;

/// How the application ended.
pub enum Ending {
    Code(i32),
    Signal(i32),
}

impl Ending {
    /// From a raw wait status.
    pub fn of_status(status: i32) -> Ending {
        match status & 0x7f {
            0 => Ending::Code((status >> 8) & 0xff),
            signal => Ending::Signal(signal),
        }
    }

    /// The eight bytes in which init tells the keeper: a PID 1 cannot itself end by a signal of its choice.
    pub fn encode(&self) -> [u8; 8] {
        let (kind, value) = match self {
            Ending::Code(code) => (1u32, *code),
            Ending::Signal(signal) => (2, *signal),
        };
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&kind.to_le_bytes());
        bytes[4..].copy_from_slice(&value.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: [u8; 8]) -> Option<Ending> {
        let [a, b, c, d, e, f, g, h] = bytes;
        let value = i32::from_le_bytes([e, f, g, h]);
        match u32::from_le_bytes([a, b, c, d]) {
            1 => Some(Ending::Code(value)),
            2 => Some(Ending::Signal(value)),
            _ => None,
        }
    }
}

/// Which files of a memory cgroup tell the story.
#[derive(Clone, Copy)]
pub enum MemoryFiles {
    V1,
    V2,
}

impl MemoryFiles {
    /// Names of the files for out-of-memory kills, peak and limit, null-terminated.
    fn names(self) -> [&'static [u8]; 3] {
        match self {
            MemoryFiles::V1 => {
                [b"memory.oom_control\0", b"memory.max_usage_in_bytes\0", b"memory.limit_in_bytes\0"]
            }
            MemoryFiles::V2 => [b"memory.events\0", b"memory.peak\0", b"memory.max\0"],
        }
    }
}

pub struct Record {
    pub ending: Ending,
    pub started_ms: u64,
    pub dropped: u64,
    pub memory: Option<(i32, MemoryFiles)>,
}

impl Record {
    /// Writes the record durably into the run directory.
    pub fn write(&self, run_dir: i32) {
        let mut text = Text::<RECORD>::new();
        text.push(b"version 1\n");
        match self.ending {
            Ending::Code(code) => text.push(b"code ").number(code as u64),
            Ending::Signal(signal) => text.push(b"signal ").number(signal as u64),
        };
        text.push(b"\nstarted_ms ").number(self.started_ms);
        let now = sys::now();
        text.push(b"\nfinished_ms ").number(now.seconds as u64 * 1000 + now.nanos as u64 / 1_000_000);
        text.push(b"\ndropped_entries ").number(self.dropped);
        if let Some((dir, files)) = self.memory {
            let [kills, peak, limit] = files.names();
            let fields: [(&[u8], &[u8], &[u8]); 3] =
                [(b"\noom_kills ", kills, b"oom_kill"), (b"\nmemory_peak ", peak, b""), (b"\nmemory_limit ", limit, b"")];
            for (name, file, key) in fields {
                if let Some(value) = read_value(dir, file, key) {
                    text.push(name).number(value);
                }
            }
        }
        text.push(b"\nend\n").fill();
        store(run_dir, text.bytes());
    }
}

fn read_value(dir: i32, file: &[u8], key: &[u8]) -> Option<u64> {
    let fd = sys::open_at(dir, file, sys::O_CLOEXEC, 0) as i32;
    if fd < 0 {
        return None;
    }
    let mut buffer = [0u8; 512];
    let got = sys::read(fd, &mut buffer);
    sys::close(fd);
    value_of(buffer.get(..usize::try_from(got).ok()?)?, key)
}

fn store(run_dir: i32, record: &[u8]) {
    // The file is there already, see the top; created all the same should somebody have removed it.
    let fd = sys::open_at(run_dir, b"exit.tmp\0", sys::O_WRONLY | sys::O_CREAT | sys::O_CLOEXEC, 0o600) as i32;
    if fd < 0 {
        return;
    }
    let whole = sys::write(fd, record) == record.len() as isize;
    sys::fsync(fd);
    sys::close(fd);
    // Without a whole record the container counts as ended in a way that nobody knows, which is then the truth.
    if whole {
        sys::rename_at(run_dir, b"exit.tmp\0", b"exit\0");
        sys::fsync(run_dir);
    }
}
