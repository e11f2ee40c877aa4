//! Heartbeats, and the leases that answer them.
//!
//! A node runs what it was told last, and some of that only under a lease. So a lease comes after what was decided by then:
//! a node that was given up, and has restarted its agent since, would begin again what was replaced elsewhere.

use model::{Timestamp, Usage};

use crate::{Codec, Effect, Manager, SessionId};

impl<C: Codec> Manager<C> {
    pub(crate) fn heartbeat(
        &mut self,
        now: Timestamp,
        session: SessionId,
        number: u64,
        usage: Option<Usage>,
    ) {
        let Some(open) = self.sessions.open.get_mut(&session) else { return };
        open.heard_at = now;
        let node = open.node;
        self.view_changed |= usage.is_some_and(|usage| self.observed.set_usage(node, usage));
        self.reads.add_heartbeat(session, number);
    }

    /// That this server led after these came is confirmed.
    pub(crate) fn heartbeats_are_confirmed(&mut self, heartbeats: Vec<(SessionId, u64)>) {
        self.sessions.confirmed.extend(heartbeats);
    }

    /// Those of nodes that were told everything. A session that ended meanwhile gets no lease: it was reckoned without.
    pub(super) fn answer_heartbeats(&mut self) {
        let sessions = &mut self.sessions;
        if sessions.confirmed.is_empty() {
            return;
        }
        let nodes = self.state.nodes().count();
        sessions.confirmed.retain(|(session, number)| {
            let Some(open) = sessions.open.get(session) else { return false };
            let is_told = open.told.is_some();
            if is_told {
                let heard = self.state.settings().hear(*number, nodes);
                self.effects.push(Effect::Heard { session: *session, heard });
            }
            !is_told
        });
    }
}
