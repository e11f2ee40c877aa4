//! How a server that was removed learns of it: consensus itself stops talking to it at once.

use consensus::{Membership, PeerMessage, PeerMessageKind};
use model::{MemberId, MemberPart};

use crate::{Codec, Effect, Manager};

impl<C: Codec> Manager<C> {
    /// Says whether the message is for consensus.
    pub(crate) fn note_peer(&mut self, message: &PeerMessage) -> bool {
        if message.kind == PeerMessageKind::Removed {
            if !self.leader.leads() {
                self.is_removed(format!("server {} says so", MemberId(message.from)));
            }
            return false;
        }
        let sender = self.state.member(MemberId(message.from));
        let was_removed = sender.is_some_and(|sender| sender.part == MemberPart::Removed);
        if was_removed && !self.consensus.status().membership.contains(message.from) {
            self.say(message.from, PeerMessageKind::Removed);
            return false;
        }
        self.members.silent.insert(message.from, 0);
        self.members.lonely_ticks = 0;
        message.kind != PeerMessageKind::Asks
    }

    /// Nobody talks to a server that was removed; so one that hears nothing for long asks.
    pub(super) fn ask_whether_removed(&mut self) {
        let patience = self.members.patience_ticks * 2;
        if self.members.lonely_ticks < patience || self.leader.leads() {
            return;
        }
        self.members.lonely_ticks = 0;
        for peer in self.consensus.status().membership.members().collect::<Vec<_>>() {
            if peer != self.members.id.0 {
                self.say(peer, PeerMessageKind::Asks);
            }
        }
    }

    fn say(&mut self, to: u64, kind: PeerMessageKind) {
        let message = PeerMessage { from: self.members.id.0, to, kind, bytes: Default::default() };
        self.effects.push(Effect::Send(vec![message]));
    }

    /// What a membership that was just applied means for this server.
    pub(crate) fn note_membership(&mut self, membership: &Membership) {
        self.view_changed = true;
        if membership.contains(self.members.id.0) {
            self.members.was_member = true;
        } else if self.members.was_member {
            self.is_removed("it has applied the decision".to_owned());
        }
    }

    fn is_removed(&mut self, how: String) {
        self.members.removed.get_or_insert(format!(
            "this server was removed from the cluster: {how}. To come back it joins again with an empty data directory, \
             as a new member"
        ));
    }
}
