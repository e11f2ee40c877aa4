//! Between servers: messages are lost, come late, twice and in another order, and some ways are closed for a while, often
//! in one direction only. There is a way where either knows where the other is.

use std::collections::BTreeMap;

use consensus::{Delivery, PeerMessage, PeerMessageKind};
use manager::Event;
use model::{Millis, Timestamp};

use crate::world::{Happening, World};

#[derive(Debug, Default)]
pub(crate) struct Ways {
    /// From one server to another.
    closed_until: BTreeMap<(usize, usize), Timestamp>,
}

impl Ways {
    pub(crate) fn close(&mut self, from: usize, to: usize, until: Timestamp) {
        let known = self.closed_until.entry((from, to)).or_insert(until);
        *known = until.max(*known);
    }

    pub(crate) fn open_all(&mut self) {
        self.closed_until.clear();
    }

    fn is_closed(&self, from: usize, to: usize, now: Timestamp) -> bool {
        self.closed_until.get(&(from, to)).is_some_and(|until| now < *until)
    }
}

impl World {
    pub(super) fn send_to_peers(&mut self, from: usize, messages: Vec<PeerMessage>) {
        for message in messages {
            let Some(to) = self.servers.iter().position(|server| server.member == message.to) else {
                self.cx.violate("messages go to members", format!("{message:?}"));
                return;
            };
            let net = self.plan.net;
            let is_lost = !self.cx.calm && self.cx.random.between(1, 1_000) <= net.lost_per_mille;
            if is_lost || self.ways.is_closed(from, to, self.cx.now) || !self.is_way(from, to) {
                self.could_not_send(from, &message);
                continue;
            }
            if !self.cx.calm && self.cx.random.between(1, 1_000) <= net.twice_per_mille {
                self.message_leaves(from, to, message.clone());
            }
            self.message_leaves(from, to, message);
        }
    }

    /// A server dials whom it knows, and answers others over the connections that they opened.
    fn is_way(&self, from: usize, to: usize) -> bool {
        let knows = |one: usize, other: usize| self.servers[one].knows(self.servers[other].member);
        knows(from, to) || knows(to, from)
    }

    fn message_leaves(&mut self, from: usize, to: usize, message: PeerMessage) {
        let life = self.servers[from].life;
        let slow = !self.cx.calm && self.cx.random.one_in(10);
        let high = if slow { self.plan.net.slow_ms } else { 8 };
        self.cx.soon(0, high, Happening::ToPeer { from, life, to, message });
    }

    pub(crate) fn arrive_at_peer(&mut self, from: usize, life: u32, to: usize, message: PeerMessage) {
        let is_there = self.servers[to].is_up() && !self.ways.is_closed(from, to, self.cx.now);
        let is_same = self.servers[from].life == life;
        if !is_there {
            if is_same {
                self.could_not_send(from, &message);
            }
            return;
        }
        if message.kind == PeerMessageKind::Snapshot && is_same {
            self.cx.say(format_args!("server {from}: snapshot arrives at server {to}"));
            self.server_hears(from, Event::SnapshotSent { peer: message.to, delivery: Delivery::Arrived });
        }
        // Of the one that sends, which may hand on what another asked, and may be another build by now.
        let (sender, level) = (self.servers[from].member, self.servers[from].level);
        let level = (is_same && message.from == sender).then_some(level);
        self.server_hears(to, Event::Peer { message, level });
    }

    /// A transport notices most of what it cannot send, and of a snapshot it always knows.
    fn could_not_send(&mut self, from: usize, message: &PeerMessage) {
        let peer = message.to;
        if message.kind == PeerMessageKind::Snapshot {
            self.server_hears(from, Event::SnapshotSent { peer, delivery: Delivery::Failed });
        }
        if self.cx.random.one_in(2) {
            self.server_hears(from, Event::Unreachable { peer });
        }
    }

    /// All ways between the servers on this side and the others are closed.
    pub(crate) fn split(&mut self, side: impl Fn(usize) -> bool, lasts: Millis) {
        let until = self.cx.now + lasts;
        for from in 0..self.servers.len() {
            for to in (0..self.servers.len()).filter(|to| side(from) != side(*to)) {
                self.ways.close(from, to, until);
            }
        }
    }
}
