//! How a server that was removed learns of it: consensus itself stops talking to it at once.
//!
//! It does not stop by itself, also where it has applied the decision: as long as others do not know of it, they need its
//! vote. So it goes on until the leader tells it that it is not needed any more. The leader says so for a while after the
//! removal; who was away for longer asks whomever it knows, and who does not lead hands the question on. Neither would do
//! alone: nobody may be left of those whom it knew, and a leader cannot talk to all that ever were for ever.

use bytes::Bytes;
use consensus::{PeerMessage, PeerMessageKind};
use model::{MemberId, Millis, Timestamp};

use super::Standing;
use crate::{Codec, Effect, Manager};

/// For so long after a removal the leader says it unasked.
const TOLD_FOR: Millis = Millis::from_secs(600);

impl<C: Codec> Manager<C> {
    /// Says whether the message is for consensus.
    pub(crate) fn note_peer(&mut self, message: &PeerMessage) -> bool {
        match message.kind {
            PeerMessageKind::Removed => {
                if self.may_say_so(message.from) {
                    self.is_removed(MemberId(message.from));
                }
                return false;
            }
            PeerMessageKind::Asks if let Ok(asker) = message.bytes[..].try_into() => {
                self.answer_if_removed(u64::from_le_bytes(asker), false);
            }
            PeerMessageKind::Asks | PeerMessageKind::Ordinary | PeerMessageKind::Snapshot => {}
        }
        if self.was_removed(message.from) {
            self.answer_if_removed(message.from, true);
            return false;
        }
        if !self.may_speak(message.from) {
            self.tell_of_stranger(message.from);
            return false;
        }
        self.members.silent.insert(message.from, 0);
        self.members.lonely_ticks = 0;
        message.kind != PeerMessageKind::Asks
    }

    /// Who was removed itself has no say in who belongs here, and as long as a leader is heard, only that one has. Others may
    /// be unknown here: they came after this server went.
    fn may_say_so(&self, by: u64) -> bool {
        let leader = self.consensus.status().leader;
        let another_leads = leader.is_some_and(|leader| leader != by && self.members.can_be_reached(leader));
        !self.leader.leads() && !another_leads && !self.was_removed(by)
    }

    fn was_removed(&self, member: u64) -> bool {
        self.standing(member) == Standing::Removed
    }

    /// Once, and again after another one spoke.
    fn tell_of_stranger(&mut self, from: u64) {
        if self.members.stranger.replace(from) != Some(from) {
            let server = MemberId(from);
            tracing::warn!(%server, "a server that is no member of the cluster speaks to this one, and is not heard");
        }
    }

    fn answer_if_removed(&mut self, asker: u64, may_hand_on: bool) {
        if !self.was_removed(asker) {
            return;
        }
        let leader = self.consensus.status().leader;
        if self.leader.leads() {
            if self.consensus.is_membership_settled() {
                self.say(asker, PeerMessageKind::Removed, Bytes::new());
            }
        } else if let Some(leader) = leader.filter(|_| may_hand_on) {
            self.say(leader, PeerMessageKind::Asks, Bytes::copy_from_slice(&asker.to_le_bytes()));
        }
    }

    /// Of the leader, now and then.
    pub(super) fn tell_removed(&mut self, now: Timestamp) {
        self.members.farewell_ticks += 1;
        if self.members.farewell_ticks < self.members.patience_ticks
            || !self.consensus.is_membership_settled()
        {
            return;
        }
        self.members.farewell_ticks = 0;
        let lately = self.state.members().filter(|member| now.since(member.since) < TOLD_FOR);
        let lately = lately.filter(|member| !self.is_followed(member));
        let removed: Vec<u64> = lately.map(|member| member.id.0).filter(|id| self.was_removed(*id)).collect();
        for member in removed {
            self.say(member, PeerMessageKind::Removed, Bytes::new());
        }
    }

    /// Nobody talks to a server that was removed long ago; so one that hears nothing for long asks. One that was removed before it
    /// ever heard of the others knows only those whom it was told of when it joined.
    pub(super) fn ask_whether_removed(&mut self) {
        let patience = self.members.patience_ticks * 2;
        if self.members.lonely_ticks < patience || self.leader.leads() {
            return;
        }
        self.members.lonely_ticks = 0;
        let membership = self.consensus.status().membership;
        let mut known: Vec<u64> = membership.members().collect();
        if known.is_empty() {
            known.extend(&self.members.contacts);
        }
        for peer in known {
            if peer != self.members.id.0 {
                self.say(peer, PeerMessageKind::Asks, Bytes::new());
            }
        }
    }

    fn say(&mut self, to: u64, kind: PeerMessageKind, bytes: Bytes) {
        let message = PeerMessage { from: self.members.id.0, to, kind, bytes };
        self.effects.push(Effect::Send(vec![message]));
    }

    fn is_removed(&mut self, by: MemberId) {
        self.members.removed.get_or_insert(format!(
            "this server was removed from the cluster: server {by} says so. To come back it joins again with an empty data \
             directory, as a new member"
        ));
    }
}
