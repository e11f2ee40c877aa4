//! A server that has joined tells the leader where it is, until it is a member.

use std::time::Duration;

use dial::{Patience, Way, dial};
use model::MemberId;
use proto::{LEADER_HEADER, v1};
use tonic::Status;

use crate::{brain::Brain, chain::chain, remote::RemoteConfig};

const PATIENCE: Patience = Patience { connect: Duration::from_secs(2), silence: Duration::from_secs(5) };
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// Ends once the state, which a leader sent, has this server among its members.
pub(crate) async fn announce(own: MemberId, config: RemoteConfig, brain: Brain, find_any: FindAny) {
    let mut views = brain.views();
    let mut said = String::new();
    let mut turn = 0;
    let mut leader = None;
    while views.borrow_and_update().state.member(own).is_none() {
        let contacts: Vec<&String> = config.contacts.values().collect();
        let in_turn = contacts.get(turn % contacts.len().max(1)).map(|address| (*address).clone());
        turn += 1;
        let Some(address) = leader.take().or(in_turn) else { return };
        if let Err(status) = tell(find_any(address), &config).await {
            leader = status.metadata().get(LEADER_HEADER).and_then(|at| Some(at.to_str().ok()?.to_owned()));
            // Once, and again for every new reason.
            if leader.is_none() && status.message() != said {
                said = status.message().to_owned();
                tracing::warn!(reason = said, "this server is no member yet, and goes on asking");
            }
        }
        let pause = if leader.is_some() { Duration::ZERO } else { TRY_AGAIN };
        if tokio::time::timeout(pause, views.changed()).await.is_ok_and(|changed| changed.is_err()) {
            return;
        }
    }
}

/// The way to whatever server listens at an address.
pub(crate) type FindAny = Box<dyn Fn(String) -> Way + Send + Sync>;

async fn tell(way: Way, config: &RemoteConfig) -> Result<(), Status> {
    let channel = dial(way, PATIENCE).await.map_err(|error| Status::unavailable(chain(&error)))?;
    let request = v1::AnnounceRequest { name: config.name.to_string(), address: config.advertise.clone() };
    v1::join_client::JoinClient::new(channel).announce(request).await?;
    Ok(())
}
