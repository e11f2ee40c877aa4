//! What a server tells the leader of itself: that it has joined, where it is, and how far it has followed a rotation of the
//! authority. Until the state says so too.

use std::time::Duration;

use dial::{Way, dial};
use manager::View;
use model::{Belief, Level, Member, MemberId, MemberPart, NodeId};
use proto::{LEADER_HEADER, trust::belief_of, v1};
use tokio::sync::watch;
use tonic::Status;

use crate::{brain::Brain, chain::chain, forward::PATIENCE, remote::RemoteConfig, rotation};

const TRY_AGAIN: Duration = Duration::from_millis(500);

/// The way to whatever server listens at an address.
pub(crate) type FindAny = Box<dyn Fn(String) -> Way + Send + Sync>;

/// A server as it speaks of itself.
pub(crate) struct Announcing {
    pub(crate) own: MemberId,
    pub(crate) config: RemoteConfig,
    pub(crate) belief: watch::Receiver<Belief>,
    pub(crate) find_any: FindAny,
}

impl Announcing {
    /// Ends with the brain.
    pub(crate) async fn run(mut self, brain: Brain) {
        let mut servers = brain.servers();
        let mut said = String::new();
        let mut turn = 0;
        let mut leader = None;
        loop {
            servers.mark_unchanged();
            self.belief.mark_unchanged();
            let view = brain.newest();
            // The first server of a cluster knows nobody to tell, until the state has itself.
            let address = leader.take().or_else(|| self.address(&view, turn));
            let Some(address) = address.filter(|_| self.is_news(&view)) else {
                // What the state says of servers changes, or what this one believes.
                tokio::select! {
                    Ok(()) = servers.changed() => continue,
                    Ok(()) = self.belief.changed() => continue,
                    else => return,
                }
            };
            turn += 1;
            if let Err(status) = self.tell(address).await {
                let header = status.metadata().get(LEADER_HEADER);
                leader = header.and_then(|at| Some(at.to_str().ok()?.to_owned()));
                // Once, and again for every new reason.
                if leader.is_none() && status.message() != said {
                    said = status.message().to_owned();
                    tracing::warn!(reason = said, "the leader does not know yet how this server stands");
                }
            }
            // What was told arrives here with the log.
            let pause = if leader.is_some() { Duration::ZERO } else { TRY_AGAIN };
            if tokio::time::timeout(pause, servers.changed()).await.is_ok_and(|changed| changed.is_err()) {
                return;
            }
        }
    }

    /// Whether the state, as far as it is here, says something else of this server.
    fn is_news(&self, view: &View) -> bool {
        let known = view.state.member(self.own);
        let is_as_told =
            |known: &Member| known.name == self.config.name && known.address == self.config.advertise;
        match known {
            Some(known) if known.part == MemberPart::Removed => false,
            Some(known) => {
                let host = NodeId(self.own.0);
                !is_as_told(known) || rotation::is_news(&view.state, host, *self.belief.borrow())
            }
            None => true,
        }
    }

    /// Where to ask. The state tells better than what was said when this server joined; but one that moved while all others
    /// changed is found by nobody, until somebody says in its configuration where one of them is.
    fn address(&self, view: &View, turn: usize) -> Option<String> {
        let members = view.state.members().filter(|member| member.part != MemberPart::Removed);
        let mut addresses: Vec<&String> = members.map(|member| &member.address).collect();
        let contacts = self.config.contacts.values();
        addresses
            .extend(contacts.filter(|contact| !view.state.members().any(|known| known.address == **contact)));
        addresses.get(turn % addresses.len().max(1)).map(|address| (*address).clone())
    }

    async fn tell(&self, address: String) -> Result<(), Status> {
        let channel = dial((self.find_any)(address), PATIENCE).await;
        let channel = channel.map_err(|error| Status::unavailable(chain(&error)))?;
        let request = v1::AnnounceRequest {
            name: self.config.name.to_string(),
            address: self.config.advertise.clone(),
            believes: Some(belief_of(NodeId(self.own.0), *self.belief.borrow())),
            level: Level::NEWEST.0,
        };
        v1::join_client::JoinClient::new(channel).announce(request).await?;
        Ok(())
    }
}
