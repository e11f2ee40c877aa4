//! How a container ended, from the runtime's record to the model's words.

use model::{Bytes, Exit, ExitCause, Millis, Timestamp};
use runtime::{Ending, ExitRecord};

use crate::clock::{self, Clock};

/// An end whose time nobody knows is dated now. Keepers go by the wall's clock.
pub(crate) fn exit_of(record: &ExitRecord, clock: &Clock) -> Exit {
    let finished = record.finished_ms.map_or_else(clock::wall, Timestamp);
    let (at, ran_for) = (clock.at_wall(finished), finished.since(Timestamp(record.started_ms)));
    let cause = match record.ending {
        Ending::Code(_) | Ending::Signal(_) if record.oom_killed => ExitCause::OutOfMemory {
            limit: Bytes(record.memory_limit_bytes.unwrap_or_default()),
            peak: Bytes(record.memory_peak_bytes.unwrap_or_default()),
        },
        Ending::Code(code) => u8::try_from(code).map_or(ExitCause::Unknown, ExitCause::Code),
        Ending::Signal(signal) => u8::try_from(signal).map_or(ExitCause::Unknown, ExitCause::Signal),
        Ending::Unknown => ExitCause::Unknown,
    };
    Exit { cause, at, ran_for }
}

/// Of a container that left no record at all.
pub(crate) fn unknown_exit(now: Timestamp) -> Exit {
    Exit { cause: ExitCause::Unknown, at: now, ran_for: Millis::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_told_as_what_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::open(&folder.path().join("clock"), None).unwrap();
        let began = clock::wall().0;
        let record = |ending, oom_killed| ExitRecord {
            ending,
            oom_killed,
            oom_kills: u64::from(oom_killed),
            memory_limit_bytes: Some(64),
            memory_peak_bytes: Some(63),
            started_ms: began - 8_000,
            finished_ms: Some(began - 7_500),
            dropped_log_entries: 0,
        };
        let cause = |ending, oom| exit_of(&record(ending, oom), &clock).cause;
        assert_eq!(cause(Ending::Code(3), false), ExitCause::Code(3));
        assert_eq!(cause(Ending::Signal(9), false), ExitCause::Signal(9));
        let out_of_memory = ExitCause::OutOfMemory { limit: Bytes(64), peak: Bytes(63) };
        assert_eq!(cause(Ending::Signal(9), true), out_of_memory);
        assert_eq!(cause(Ending::Code(137), true), out_of_memory);
        let lost = ExitRecord { finished_ms: None, ..record(Ending::Unknown, false) };
        let (before, exit, after) = (clock.now(), exit_of(&lost, &clock), clock.now());
        assert!(exit.cause == ExitCause::Unknown && before <= exit.at && exit.at <= after, "{exit:?}");
        assert!(exit.ran_for >= Millis(8_000), "{exit:?}");
        assert_eq!(exit_of(&record(Ending::Code(0), false), &clock).ran_for, Millis(500));
    }
}
