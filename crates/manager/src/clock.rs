//! The cluster's time, and how this server's own clock is read by it.
//!
//! What is measured from the state (deadlines of rollouts, the loss of a node, the end of a drain) was begun by the clock of
//! whoever led then. Clocks of two servers are never compared: the time goes on from the last that the log says, at the
//! pace of this server's own steady clock. What had a minute left has a minute left, though the next leader's clock is an
//! hour ahead or behind, and though no server ran for a day.
//!
//! People read these times too. So the leader sets the time to its wall clock in a moment in which nothing in the state
//! counts down, or would again, and all that it measures itself is as long ago afterwards as it was before ([`Manager::set_the_time`]).
//!
//! A server that was restarted does not know how long ago the last entry was written, and counts from when it read it. So while
//! anything counts down the leader writes down what time it is each minute ([`Manager::tell_the_time`]), and no countdown becomes
//! longer by more than that when such a server leads next.
//!
//! What agents say is by their own clocks, and is read by how long ago it was when they said it ([`Ago`]).

use model::{Millis, Timestamp};
use store::Command;

use crate::{Codec, Manager, proposals::Origin};

/// What people do not notice is not worth it.
const WORTH_IT: Millis = Millis(1_000);

/// How far the log may be behind while anything counts down.
const TELLS_EVERY: Millis = Millis::from_secs(60);

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    /// This server's own clock, at this step.
    own: Timestamp,
    /// A time in the log, or in the snapshot that this server began with.
    last: Option<Timestamp>,
    /// What the own clock showed when that was learned.
    since: Option<Timestamp>,
    wall: Option<Timestamp>,
}

impl Clock {
    pub(crate) fn of(last: Timestamp) -> Clock {
        Clock { last: (last > Timestamp(0)).then_some(last), ..Clock::default() }
    }

    /// A step begins.
    pub(crate) fn set(&mut self, own: Timestamp) {
        self.own = own;
        self.since.get_or_insert(own);
    }

    pub(crate) fn look_at_the_wall(&mut self, wall: Timestamp) {
        self.wall = Some(wall);
    }

    /// Something was decided at that time by whoever leads, after all that was learned before.
    pub(crate) fn learn(&mut self, at: Timestamp) {
        (self.last, self.since) = (Some(at), Some(self.own));
    }

    pub(crate) fn now(&self) -> Timestamp {
        match (self.last, self.since) {
            (Some(last), Some(since)) => last + self.own.since(since),
            _ => self.own,
        }
    }

    /// From here on the time goes by this server: it does not matter any more when what it proposes is applied.
    pub(crate) fn hold(&mut self) {
        self.learn(self.now());
    }

    /// What the time should be, where it is not.
    fn wrong(&self) -> Option<Timestamp> {
        let (wall, now) = (self.wall.unwrap_or(self.own), self.now());
        (between(wall, now) > WORTH_IT).then_some(wall)
    }

    pub(crate) fn reckoning(&self) -> Reckoning {
        Reckoning { own: self.own, time: self.now() }
    }
}

impl<C: Codec> Manager<C> {
    /// Sets the time to what people's watches say, if it is another and nothing in the state, or on its way there, is
    /// measured by it now.
    pub(crate) fn set_the_time(&mut self) {
        let (Some(right), now) = (self.clock.wrong(), self.clock.now()) else { return };
        // Nor may anything that has ended begin again. What is on its way to the state may not come there: then another server
        // leads, and counts on.
        let counts_down = |at| self.state.counts_down(at) || self.ahead().counts_down(at);
        if !self.leader.leads() || counts_down(now) || counts_down(right) {
            return;
        }
        tracing::info!(from = now.0, to = right.0, "the cluster's time is set to this server's clock");
        let to = |at| shifted(at, now, right);
        self.observed.translate(to);
        self.sessions.translate(to);
        self.directory.leaving.translate(to);
        self.leader.translate(to);
        self.clock.learn(right);
        self.view_changed = true;
    }

    /// Writes down what time it is, if the log has not said so for long and something counts down. Where nothing does, nothing is
    /// written: an idle server leaves its disk alone.
    pub(crate) fn tell_the_time(&mut self) {
        let (now, ahead) = (self.clock.now(), self.ahead());
        let is_long_ago = between(now, ahead.latest()) >= TELLS_EVERY;
        if !self.leader.leads() || !is_long_ago || !ahead.counts_down(now) {
            return;
        }
        let command = Command::Place { placements: Vec::new(), at: now };
        if let Err(error) = self.try_and_propose(command, Origin::Nobody) {
            tracing::debug!(%error, "what time it is could not be written down; the next tick tries again");
        }
    }
}

/// The cluster's time by the clock of one server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reckoning {
    own: Timestamp,
    time: Timestamp,
}

impl Reckoning {
    /// The cluster's time when the server's own clock shows `own`.
    pub fn time(self, own: Timestamp) -> Timestamp {
        shifted(own, self.own, self.time)
    }

    /// What the server's own clock shows at a time of the cluster.
    pub(crate) fn own(self, time: Timestamp) -> Timestamp {
        shifted(time, self.time, self.own)
    }
}

/// Whichever of them is the later.
fn between(one: Timestamp, other: Timestamp) -> Millis {
    one.since(other).max(other.since(one))
}

fn shifted(at: Timestamp, from: Timestamp, to: Timestamp) -> Timestamp {
    Timestamp(at.0.saturating_add(to.0).saturating_sub(from.0))
}

/// Makes an agent's times ones of the cluster: so long ago as they were when the agent said them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ago {
    /// By the agent's clock. None of an agent of a version that did not say: then its times are taken as they are.
    said_at: Option<Timestamp>,
    now: Timestamp,
}

impl Ago {
    pub(crate) fn new(said_at: Option<Timestamp>, now: Timestamp) -> Ago {
        Ago { said_at, now }
    }

    pub(crate) fn time(self, at: Timestamp) -> Timestamp {
        self.said_at.map_or(at, |said_at| shifted(at, said_at, self.now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Millis = Millis::from_secs(3_600);

    #[test]
    fn time_goes_on_from_the_log_whatever_the_own_clock_shows() {
        let last = Timestamp(1_000_000_000);
        for own in [last + HOUR, Timestamp(last.0 - HOUR.0), last] {
            let mut clock = Clock::of(last);
            clock.set(own);
            assert_eq!(clock.now(), last);
            clock.set(own + Millis(5_000));
            assert_eq!(clock.now(), last + Millis(5_000));
            // What the next entry says counts.
            clock.learn(last + Millis(4_000));
            assert_eq!(clock.now(), last + Millis(4_000));
            clock.set(own + Millis(7_000));
            assert_eq!(clock.now(), last + Millis(6_000));
            let reckoning = clock.reckoning();
            assert_eq!(reckoning.time(own + Millis(8_000)), last + Millis(7_000));
            assert_eq!(reckoning.own(last + Millis(7_000)), own + Millis(8_000));
        }
    }

    #[test]
    fn the_first_server_begins_with_its_own_clock() {
        let mut clock = Clock::of(Timestamp(0));
        clock.set(Timestamp(50_000));
        assert_eq!(clock.now(), Timestamp(50_000));
        clock.set(Timestamp(50_010));
        assert_eq!((clock.now(), clock.wrong()), (Timestamp(50_010), None));
        clock.look_at_the_wall(Timestamp(9_000_000));
        assert_eq!((clock.now(), clock.wrong()), (Timestamp(50_010), Some(Timestamp(9_000_000))));
    }

    #[test]
    fn what_agents_say_is_as_long_ago_as_it_was_for_them() {
        let now = Timestamp(1_000_000_000);
        for said_at in [Timestamp(60_000), now + HOUR] {
            let ago = Ago::new(Some(said_at), now);
            assert_eq!(ago.time(Timestamp(said_at.0 - 12_000)), Timestamp(now.0 - 12_000));
            assert_eq!(ago.time(said_at + Millis(3_000)), now + Millis(3_000));
        }
        assert_eq!(Ago::new(None, now).time(Timestamp(7)), Timestamp(7));
    }
}
