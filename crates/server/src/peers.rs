//! The way to the other servers: messages of consensus go out and come in here.
//!
//! - `link`: the connection to one peer, made again whenever it breaks.
//! - `exchange`: what is said over it; and the way back to whom the state does not name.
//! - `snapshot`: a snapshot on its way to a peer, in pieces, gone on with after a cut.
//! - `incoming`: the gRPC service that peers call.
//!
//! Invariants:
//! - The manager never waits for a peer: what a peer does not take in time is dropped, and
//!   consensus is told that the peer was not reached. Consensus sends again what was lost.
//! - A message is believed to be from the member whom the connection proves, not from whom it names.
//! - Nobody is dialled for what it says: only where the state, or what this server was told when it joined, says a member is.
//!
//! Start reading at [`Peers::send`].

mod exchange;
mod incoming;
mod link;
mod snapshot;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use consensus::{Delivery, MemberId, PeerMessage, PeerMessageKind};
use dial::{Patience, Way};
use model::Level;
use tokio::runtime::Handle;
use tonic::Status;

use crate::brain::Stopped;

use exchange::Ends;
pub use exchange::Exchanges;
pub use incoming::Incoming;
use link::Link;

/// What happens between servers, for the manager.
#[derive(Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// And what its sender knows, where it said so.
    Received(PeerMessage, Option<Level>),
    /// This member does not speak any more, for now: its connection ended.
    Ended(MemberId),
    /// Something that was sent to this member did not arrive.
    Unreachable(MemberId),
    /// How the sending of a snapshot ended.
    Snapshot(MemberId, Delivery),
}

/// Tells the manager what came together. Never waits for a peer. Fails once the manager has ended.
pub type Tell = Arc<dyn Fn(Vec<PeerEvent>) -> Result<(), Stopped> + Send + Sync>;

/// Whether this server takes a snapshot of a member, or why not.
pub type Listens = Arc<dyn Fn(MemberId) -> Result<(), Status> + Send + Sync>;

/// The way to the server that listens at an address, which must prove to be this member. Asked for each connection, so that
/// a certificate that was renewed is presented.
pub type FindWay = Arc<dyn Fn(MemberId, String) -> Way + Send + Sync>;

/// A connection that broke is noticed soon: until then nobody tries to make another.
const PATIENCE: Patience = Patience { connect: Duration::from_secs(2), silence: Duration::from_secs(2) };

/// The links to all peers. Dropping it closes them.
pub struct Peers {
    own: MemberId,
    runtime: Handle,
    find_way: FindWay,
    tell: Tell,
    links: BTreeMap<MemberId, Link>,
    exchanges: Exchanges,
    /// Whom this server was told of when it joined: it answers them before it knows the state.
    contacts: BTreeMap<MemberId, String>,
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers").field("own", &self.own).field("links", &self.links).finish_non_exhaustive()
    }
}

impl Peers {
    pub fn new(
        own: MemberId,
        contacts: BTreeMap<MemberId, String>,
        runtime: Handle,
        find_way: FindWay,
        tell: Tell,
        exchanges: Exchanges,
    ) -> Peers {
        let mut peers = Peers { own, runtime, find_way, tell, links: BTreeMap::new(), exchanges, contacts };
        peers.know(&BTreeMap::new());
        peers
    }

    /// Where the other members are; until anybody is named, where the contacts are. Links to members that are gone are
    /// closed; one whose address changed is made anew.
    pub fn know(&mut self, addresses: &BTreeMap<MemberId, String>) {
        let addresses = if addresses.is_empty() { &self.contacts } else { addresses };
        self.links.retain(|member, link| addresses.get(member).is_some_and(|at| *at == link.address));
        for (&member, address) in addresses {
            if member != self.own && !self.links.contains_key(&member) {
                let ends = Ends { own: self.own, peer: member };
                let link = Link::open(
                    &self.runtime,
                    ends,
                    address.clone(),
                    self.find_way.clone(),
                    self.tell.clone(),
                );
                self.links.insert(member, link);
            }
        }
    }

    /// Hands messages to the links. Never waits.
    pub fn send(&self, messages: Vec<PeerMessage>) {
        for message in messages {
            let (to, kind) = (message.to, message.kind);
            if self.take(message) {
                continue;
            }
            let event = match kind {
                PeerMessageKind::Ordinary => PeerEvent::Unreachable(to),
                PeerMessageKind::Asks | PeerMessageKind::Removed => continue,
                PeerMessageKind::Snapshot => PeerEvent::Snapshot(to, Delivery::Failed),
            };
            // Who sends is the one to be told.
            let _ = (self.tell)(vec![event]);
        }
    }

    /// Whether it is on a way to whom it is for. While the link does not stand, it may be that the peer is not where the state
    /// says: what is said twice, consensus hears once.
    fn take(&self, message: PeerMessage) -> bool {
        match self.links.get(&message.to) {
            Some(link) if link.stands() => link.take(message),
            Some(link) => self.exchanges.answer(message.clone()) | link.take(message),
            None => self.exchanges.answer(message),
        }
    }
}
