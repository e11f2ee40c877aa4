//! The server's clocks: one that is steady, and the wall's.
//!
//! Deadlines must not pass, or never pass, because an administrator or NTP sets the clock. So the manager counts by one that
//! shows the wall's time at the start, and from then on never jumps. What is compared with other clocks, or with what people
//! know of the time, goes by the wall's: certificates, tokens and the audit.

use std::{
    sync::LazyLock,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use model::{Millis, Timestamp};

static STARTED: LazyLock<(Instant, Timestamp)> = LazyLock::new(|| (Instant::now(), wall()));

/// Steady. Not to be compared with the clock of another process.
pub(crate) fn now() -> Timestamp {
    let (started, at) = *STARTED;
    at + Millis(started.elapsed().as_millis() as u64)
}

/// What the host's clock shows now; it may jump.
pub(crate) fn wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(since_epoch.as_millis() as u64)
}
