//! raft-rs logs through slog; wharf logs through tracing.

use std::fmt::{self, Write};

use slog::{Drain, KV, Level, Never, OwnedKVList, Record, Serializer};

/// A logger whose records become tracing events of the target `raft`.
///
/// Everything is one step quieter than raft thinks: its "info" is chatter about single messages, and the server
/// reports roles and terms itself.
pub(crate) fn logger() -> slog::Logger {
    slog::Logger::root(Tracing, slog::o!())
}

struct Tracing;

impl Drain for Tracing {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        match record.level() {
            Level::Critical | Level::Error => tracing::error!(target: "raft", "{}", Line(record, values)),
            Level::Warning => tracing::warn!(target: "raft", "{}", Line(record, values)),
            Level::Info => tracing::debug!(target: "raft", "{}", Line(record, values)),
            Level::Debug | Level::Trace => tracing::trace!(target: "raft", "{}", Line(record, values)),
        }
        Ok(())
    }
}

/// Formats only when a subscriber asks for it.
struct Line<'a>(&'a Record<'a>, &'a OwnedKVList);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.msg())?;
        let mut pairs = Pairs(f);
        self.0.kv().serialize(self.0, &mut pairs).map_err(|_| fmt::Error)?;
        self.1.serialize(self.0, &mut pairs).map_err(|_| fmt::Error)
    }
}

struct Pairs<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Serializer for Pairs<'_, '_> {
    fn emit_arguments(&mut self, key: slog::Key, value: &fmt::Arguments<'_>) -> slog::Result {
        self.0.write_char(' ').and_then(|()| write!(self.0, "{key}={value}")).map_err(slog::Error::from)
    }
}
