//! The container's log: entries in the CRI format, rotated by size, never in the way of the application.
//!
//! An entry is `2026-11-23T05:00:00.123456789Z stdout F text`, with `P` in place of `F` when the line goes on in the
//! next entry of the same stream (lines over 16 KiB are split). Entries are written whole: when the disk fills up
//! in the middle of one, the file is cut back to the last whole entry. What could not be written is counted, and the
//! count is written as an entry of its own as soon as writing works again.

use crate::sys;
use crate::text::Text;

/// The longest piece of a line in one entry.
pub const LINE: usize = 16 * 1024;
/// Room for at least one longest entry; entries are gathered here and written together.
const OUT: usize = 32 * 1024;
/// Room for a file name with its null and its rotation number.
const NAME: usize = 256 + 16;

pub struct Log {
    dir: i32,
    name: &'static [u8],
    fd: i32,
    max_bytes: u64,
    /// The current file and the rotated ones together; at least 1.
    max_files: u64,
    /// Bytes in the current file, all of them whole entries.
    size: u64,
    out: &'static mut [u8; OUT],
    out_len: usize,
    out_entries: u64,
    /// Entries lost since the last one that was written.
    dropped: u64,
    dropped_total: u64,
}

static mut OUT_BUFFER: [u8; OUT] = [0; OUT];

impl Log {
    /// May be called once in the life of the process: there is one output buffer.
    pub fn open(dir: i32, name: &'static [u8], max_bytes: u64, max_files: u64) -> Log {
        // SAFETY: one thread, and this function is called once, so the reference is the only one.
        let out = unsafe { &mut *(&raw mut OUT_BUFFER) };
        let mut log =
            Log { dir, name, fd: -1, max_bytes, max_files, size: 0, out, out_len: 0, out_entries: 0, dropped: 0, dropped_total: 0 };
        log.open_file();
        log
    }

    fn open_file(&mut self) {
        let flags = sys::O_WRONLY | sys::O_CREAT | sys::O_APPEND | sys::O_CLOEXEC;
        self.fd = sys::open_at(self.dir, file_name(self.name, 0).bytes(), flags, 0o640) as i32;
        self.size = if self.fd >= 0 { sys::size(self.fd) } else { 0 };
    }

    /// Adds one entry. It reaches the file at the latest with `flush`.
    pub fn append(&mut self, time: sys::Time, stream: &[u8], whole: bool, line: &[u8]) {
        let mut head = Text::<48>::new();
        head.time(time).push(b" ").push(stream).push(if whole { b" F " } else { b" P " });
        let len = head.bytes().len() + line.len() + 1;
        let ahead = self.size + self.out_len as u64;
        if ahead > 0 && ahead + len as u64 > self.max_bytes {
            self.flush();
            self.rotate();
        }
        if self.out_len + len > OUT {
            self.flush();
        }
        self.put(head.bytes());
        self.put(line);
        self.put(b"\n");
        self.out_entries += 1;
    }

    fn put(&mut self, bytes: &[u8]) {
        self.out[self.out_len..self.out_len + bytes.len()].copy_from_slice(bytes);
        self.out_len += bytes.len();
    }

    /// Writes what was gathered, or counts it as dropped.
    pub fn flush(&mut self) {
        if self.out_len == 0 {
            return;
        }
        let (len, entries) = (self.out_len, self.out_entries);
        (self.out_len, self.out_entries) = (0, 0);
        if self.fd < 0 {
            self.open_file();
        }
        let (size, dropped) = (self.size, self.dropped);
        if self.tell_dropped() {
            if write_whole(self.fd, &self.out[..len], &mut self.size) {
                return;
            }
            // The notice alone would say what the next one says again, and use up the last room for it.
            if self.size != size {
                sys::truncate(self.fd, size);
                (self.size, self.dropped) = (size, dropped);
            }
        }
        self.dropped += entries;
        self.dropped_total += entries;
    }

    /// Says how many entries are missing here. False when even that cannot be written.
    pub fn tell_dropped(&mut self) -> bool {
        if self.dropped == 0 {
            return self.fd >= 0;
        }
        let mut notice = Text::<192>::new();
        notice.time(sys::now()).push(b" stderr F wharf: ").number(self.dropped);
        notice.push(b" log entries before this one were dropped: the log could not be written (is its disk full?)\n");
        if self.fd < 0 || !write_whole(self.fd, notice.bytes(), &mut self.size) {
            return false;
        }
        self.dropped = 0;
        true
    }

    pub fn dropped_total(&self) -> u64 {
        self.dropped_total
    }

    /// `log` becomes `log.1`, `log.1` becomes `log.2`, and the last one goes. A file is never cut to be used again, so that
    /// readers can tell files apart by inode.
    fn rotate(&mut self) {
        if self.fd < 0 {
            return;
        }
        sys::unlink_at(self.dir, file_name(self.name, self.max_files - 1).bytes());
        for number in (0..self.max_files - 1).rev() {
            sys::rename_at(self.dir, file_name(self.name, number).bytes(), file_name(self.name, number + 1).bytes());
        }
        sys::close(self.fd);
        self.open_file();
    }
}

/// All of `bytes`, or none of them: a torn tail is cut off again.
fn write_whole(fd: i32, bytes: &[u8], size: &mut u64) -> bool {
    let mut done = 0;
    while done < bytes.len() {
        let wrote = sys::write(fd, &bytes[done..]);
        if wrote == sys::EINTR {
            continue;
        }
        if wrote <= 0 {
            if done > 0 {
                sys::truncate(fd, *size);
            }
            return false;
        }
        done += wrote as usize;
    }
    *size += bytes.len() as u64;
    true
}

/// The name of the file with that rotation number, null-terminated; 0 is the current one.
fn file_name(name: &[u8], number: u64) -> Text<NAME> {
    let mut text = Text::new();
    text.push(name);
    if number > 0 {
        text.push(b".").number(number);
    }
    text.push(b"\0");
    text
}

/// One of the two output pipes, with the line that is not finished yet.
pub struct Stream {
    /// Negative when the other side is gone.
    pub fd: i32,
    name: &'static [u8],
    line: &'static mut [u8; LINE],
    len: usize,
}

static mut STDOUT_LINE: [u8; LINE] = [0; LINE];
static mut STDERR_LINE: [u8; LINE] = [0; LINE];

impl Stream {
    /// May be called once in the life of the process, for the same reason as `Log::open`.
    pub fn pair(stdout: i32, stderr: i32) -> [Stream; 2] {
        // SAFETY: one thread, and this function is called once, so the references are the only ones.
        let (out, err) = unsafe { (&mut *(&raw mut STDOUT_LINE), &mut *(&raw mut STDERR_LINE)) };
        [
            Stream { fd: stdout, name: b"stdout", line: out, len: 0 },
            Stream { fd: stderr, name: b"stderr", line: err, len: 0 },
        ]
    }

    /// Reads once and logs the lines that are complete. Returns how much was read; 0 when there is no more for now.
    pub fn take(&mut self, log: &mut Log) -> usize {
        let got = sys::read(self.fd, &mut self.line[self.len..]);
        if got == sys::EAGAIN || got == sys::EINTR {
            return 0;
        }
        if got <= 0 {
            self.end(log);
            sys::close(self.fd);
            self.fd = -1;
            return 0;
        }
        self.split(log, got as usize);
        got as usize
    }

    /// Logs each whole line in the buffer and moves what is left to its beginning.
    fn split(&mut self, log: &mut Log, got: usize) {
        let time = sys::now();
        let filled = self.len + got;
        let (mut start, mut search) = (0, self.len);
        while let Some(found) = self.line[search..filled].iter().position(|byte| *byte == b'\n') {
            let end = search + found;
            log.append(time, self.name, true, &self.line[start..end]);
            start = end + 1;
            search = start;
        }
        if start == 0 && filled == LINE {
            log.append(time, self.name, false, &self.line[..]);
            start = filled;
        }
        self.line.copy_within(start..filled, 0);
        self.len = filled - start;
        log.flush();
    }

    /// Logs a last line that has no newline.
    pub fn end(&mut self, log: &mut Log) {
        if self.len > 0 {
            log.append(sys::now(), self.name, true, &self.line[..self.len]);
            self.len = 0;
        }
        log.flush();
    }
}
