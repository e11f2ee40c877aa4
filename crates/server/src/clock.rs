//! The server's clock: the wall's at start, and from then on steady.
//!
//! Deadlines must not pass, or never pass, because an administrator or NTP sets the clock. Agents keep theirs the same
//! way, and what they tell is compared with this.

use std::{
    sync::LazyLock,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use model::{Millis, Timestamp};

static STARTED: LazyLock<(Instant, Timestamp)> = LazyLock::new(|| {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (Instant::now(), Timestamp(since_epoch.as_millis() as u64))
});

/// The only place of the server that reads a wall clock.
pub(crate) fn now() -> Timestamp {
    let (started, at) = *STARTED;
    at + Millis(started.elapsed().as_millis() as u64)
}
