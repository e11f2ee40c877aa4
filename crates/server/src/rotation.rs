//! Another authority for the cluster while it serves: the leader takes the next step once every host has followed the last.
//!
//! The steps are those of `trust::bundle`. Where a rotation stands is in the state, and so is how far each host is: a new
//! leader simply goes on. Two leaders who take the same step at once do not harm: each names the bundle that it replaces.

use std::{collections::BTreeMap, time::Duration};

use manager::{Request, RequestError, View};
use model::{Belief, ClusterId, ClusterTrust, MemberId, MemberPart, NodeId, SecretText, Timestamp};
use store::{State, TrustChange};
use tonic::Status;
use trust::{
    authority::{Authority, AuthorityError},
    bundle::{Hosts, RotationError, Stage, Trust, TrustTextError},
    validity,
};

use crate::{
    brain::Brain,
    chain::chain,
    control::refuse::{request_error, stopped},
};

/// A write that failed is tried again: there may be no leader, or no room on its disk.
const TRY_AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    #[error("the trust bundle in the state cannot be read")]
    Bundle(#[from] TrustTextError),
    #[error("the next authority cannot be made")]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Rotation(#[from] RotationError),
    #[error("the next authority's key is not in the state")]
    NoNext,
    #[error(transparent)]
    Write(#[from] RequestError),
}

/// Takes the steps that follow the first, wherever this server leads. Ends with the brain.
pub(crate) async fn go_on(own: MemberId, brain: Brain) {
    let (mut views, mut servers) = (brain.views(), brain.servers());
    let mut said = String::new();
    loop {
        servers.mark_unchanged();
        let view = views.borrow_and_update().clone();
        let is_under_way = view.state.trust().is_some_and(|known| !Trust::is_settled(&known.bundle));
        if let Err(error) = advance(own, &brain, &view).await
            && chain(&error) != said
        {
            said = chain(&error);
            tracing::warn!(reason = said, "the rotation of the authority does not go on now");
        }
        let goes_on = match is_under_way {
            // What hosts believe is in the state; and a write that failed is tried again.
            true => tokio::time::timeout(TRY_AGAIN, views.changed()).await.unwrap_or(Ok(())),
            // The bundle changes only when a rotation begins: nothing else is worth a look.
            false => servers.changed().await,
        };
        if goes_on.is_err() {
            return;
        }
    }
}

/// Takes the next step, if it is this server's to take and can be taken.
async fn advance(own: MemberId, brain: &Brain, view: &View) -> Result<(), StepError> {
    if view.leader != Some(own.0) {
        return Ok(());
    }
    let Some(step) = next_step(&view.state)? else { return Ok(()) };
    match brain.request(Request::Trust(step)).await {
        Ok(Err(error)) => Err(error.into()),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

/// The first step, by a user.
pub(crate) fn begin(
    known: &ClusterTrust,
    cluster: ClusterId,
    now: Timestamp,
) -> Result<TrustChange, StepError> {
    let next = Authority::make(cluster, now, validity::AUTHORITY_LIFETIME)?;
    let bundle = Trust::from_pem(&known.bundle)?.introduce(next.certificate().clone())?;
    let next_authority = Some(SecretText(next.encode().to_string()));
    Ok(rotate(known, &bundle, known.authority.clone(), next_authority))
}

/// No step after all, by a user.
pub(crate) fn abandon(known: &ClusterTrust) -> Result<TrustChange, StepError> {
    let bundle = Trust::from_pem(&known.bundle)?.abandon()?;
    Ok(rotate(known, &bundle, known.authority.clone(), None))
}

/// What can be done now; nothing while there is no rotation, or while it waits for hosts.
fn next_step(state: &State) -> Result<Option<TrustChange>, StepError> {
    let Some(known) = state.trust() else { return Ok(None) };
    let bundle = Trust::from_pem(&known.bundle)?;
    let next = match next_bundle(state, known, &bundle) {
        Ok(Some(next)) => next,
        Ok(None) | Err(RotationError::NotYet(..)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // Only the step to the new authority changes who signs.
    let authority = match bundle.stage() {
        Stage::Introduced { .. } => known.next_authority.clone().ok_or(StepError::NoNext)?,
        Stage::Settled { .. } | Stage::Switched { .. } => known.authority.clone(),
    };
    Ok(Some(rotate(known, &next, authority, None)))
}

/// For whom the next step waits.
pub(crate) fn waits_for(state: &State, known: &ClusterTrust, bundle: &Trust) -> Vec<NodeId> {
    match next_bundle(state, known, bundle) {
        Err(RotationError::NotYet(hosts, _)) => hosts,
        Ok(_) | Err(_) => Vec::new(),
    }
}

/// The bundle of the next step; none while there is no rotation.
fn next_bundle(state: &State, known: &ClusterTrust, bundle: &Trust) -> Result<Option<Trust>, RotationError> {
    match bundle.stage() {
        Stage::Settled { .. } => Ok(None),
        Stage::Introduced { .. } => bundle.switch(&hosts(state, known)).map(Some),
        Stage::Switched { .. } => bundle.retire(&hosts(state, known)).map(Some),
    }
}

fn rotate(
    known: &ClusterTrust,
    next: &Trust,
    authority: SecretText,
    next_authority: Option<SecretText>,
) -> TrustChange {
    let trust = ClusterTrust { bundle: next.to_pem(), authority, next_authority, beliefs: BTreeMap::new() };
    TrustChange::Rotate { trust, replaces: known.bundle.clone() }
}

/// Every host of the cluster: servers by their ids in consensus, which are those of their certificates, and nodes.
fn hosts(state: &State, known: &ClusterTrust) -> Hosts {
    let members = state.members().filter(|member| member.part != MemberPart::Removed);
    let servers = members.map(|member| NodeId(member.id.0));
    let all = servers.chain(state.nodes().map(|node| node.info.id));
    all.map(|host| (host, known.beliefs.get(&host).copied())).collect()
}

/// Whether what a host believes is to be written down. While there is no rotation, nobody asks.
pub(crate) fn is_news(state: &State, host: NodeId, belief: Belief) -> bool {
    let Some(known) = state.trust() else { return false };
    !Trust::is_settled(&known.bundle) && known.beliefs.get(&host) != Some(&belief)
}

/// Writes down how far a host is, where that is of use. Where it cannot be written, the host is to say it again.
pub(crate) async fn note(brain: &Brain, host: NodeId, belief: Belief) -> Result<(), Status> {
    if !is_news(&brain.newest().state, host, belief) {
        return Ok(());
    }
    let asked = Request::Trust(TrustChange::Believe { host, belief });
    brain.request(asked).await.map_err(stopped)?.map(drop).map_err(request_error)
}
