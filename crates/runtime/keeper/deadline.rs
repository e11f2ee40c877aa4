//! A deadline that others may put off: the container is killed at the time that a file says, unless it says another then.
//!
//! This is how an agent that is dead, or hangs, or whose host slept, keeps its promise that something does not run any
//! more: it writes the file again for as long as it may run. The file's first eight bytes are milliseconds of
//! CLOCK_BOOTTIME, which goes on while the host sleeps (time_namespaces(7) do not reach this process). What cannot be read
//! has passed.

use crate::sys;

pub struct Deadline {
    file: i32,
    /// Readable once the time that was read last has come; negative without a deadline.
    pub timer: i32,
}

impl Deadline {
    /// Without a file there is none.
    pub fn of(file: Option<i32>) -> Deadline {
        match file {
            Some(file) => Deadline { file, timer: sys::boottime_timer() as i32 },
            None => Deadline { file: -1, timer: -1 },
        }
    }

    /// Whether it has passed for good; waits for the time that the file says now if not.
    pub fn has_passed(&mut self) -> bool {
        if self.file < 0 {
            return false;
        }
        let at_ms = self.read().unwrap_or(0);
        if self.timer < 0 || at_ms <= sys::boottime_ms() {
            self.file = -1;
            sys::close(self.timer);
            self.timer = -1;
            return true;
        }
        sys::set_timer(self.timer, at_ms);
        false
    }

    fn read(&self) -> Option<u64> {
        let mut bytes = [0u8; 8];
        (sys::read_at(self.file, &mut bytes, 0) == 8).then_some(u64::from_le_bytes(bytes))
    }
}
