//! Heartbeats: that this agent is there, and what the leader gives for it.
//!
//! A lease counts from when its heartbeat was *sent*, by this host's clock: however long the answer took, the leader began
//! to count no earlier.

use std::{collections::VecDeque, time::Duration};

use model::{Heard, Timestamp, Usage};
use proto::session::AgentSays;
use tokio::time::Instant;

/// Until a server says otherwise.
const FIRST_INTERVAL: Duration = Duration::from_secs(3);
/// How many answers may be outstanding. Older ones would give a lease that is over, or nearly.
const KEPT: usize = 16;

/// Those of one session.
#[derive(Debug)]
pub(super) struct Heartbeats {
    last: u64,
    /// Those that were not answered.
    sent: VecDeque<(u64, Timestamp)>,
    interval: Duration,
    due: Instant,
}

impl Heartbeats {
    /// The first is due at once.
    pub(super) fn new() -> Heartbeats {
        Heartbeats { last: 0, sent: VecDeque::new(), interval: FIRST_INTERVAL, due: Instant::now() }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    pub(super) fn next(&mut self, now: Timestamp, usage: Option<Usage>) -> AgentSays {
        self.last += 1;
        self.due = Instant::now() + self.interval;
        self.sent.push_back((self.last, now));
        if self.sent.len() > KEPT {
            self.sent.pop_front();
        }
        AgentSays::Heartbeat { number: self.last, usage }
    }

    /// Until when the lease goes; none if this answers nothing.
    pub(super) fn heard(&mut self, heard: Heard) -> Option<Timestamp> {
        self.interval = Duration::from_millis(heard.next.0);
        let (_, sent_at) = *self.sent.iter().find(|(number, _)| *number == heard.number)?;
        self.sent.retain(|(number, _)| *number > heard.number);
        Some(sent_at + heard.lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Millis;

    #[tokio::test]
    async fn a_lease_counts_from_when_its_heartbeat_was_sent() {
        let mut heartbeats = Heartbeats::new();
        let (lease, next, scatter) = (Millis(15_000), Millis(4_000), Millis(50));
        let heard = |number| Heard { number, lease, next, scatter };
        assert_eq!(heartbeats.next(Timestamp(1_000), None), AgentSays::Heartbeat { number: 1, usage: None });
        assert_eq!(heartbeats.next(Timestamp(4_000), None), AgentSays::Heartbeat { number: 2, usage: None });
        assert_eq!(heartbeats.heard(heard(2)), Some(Timestamp(19_000)));
        assert_eq!(heartbeats.heard(heard(1)), None, "older than what was answered");
        assert_eq!(heartbeats.heard(heard(7)), None, "never sent");
        heartbeats.next(Timestamp(8_000), None);
        assert!(heartbeats.due() > Instant::now() + Duration::from_millis(3_500));
    }
}
