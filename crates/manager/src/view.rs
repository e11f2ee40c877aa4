//! What readers see of a server: one moment of it, which costs nothing to keep.

use std::{collections::BTreeMap, sync::Arc};

use consensus::Membership;
use imbl::OrdMap;
use model::{Level, MemberId, Node, NodeId, Reach, ServiceKey, Timestamp, WaitingOn};
use store::{Observations, State};

use crate::{Codec, Manager, MemberWaiting, Reckoning};

/// Everything a reader can see, at one moment.
#[derive(Clone, Debug)]
pub struct View {
    pub state: State,
    pub observed: Observations,
    pub waiting_on: OrdMap<ServiceKey, Arc<[WaitingOn]>>,
    /// What the times in it are by.
    pub reckoning: Reckoning,
    pub is_leader: bool,
    pub leader: Option<u64>,
    /// Who takes part right now; `state` has what each shall be.
    pub membership: Membership,
    /// What members wait for, where they are not yet what they shall be. Known to the leader.
    pub members_waiting: BTreeMap<MemberId, MemberWaiting>,
    /// What members know: this server, and where it leads all that it hears.
    pub levels: OrdMap<MemberId, Level>,
    /// Whether a leader is heard that is known here, or this server leads.
    pub hears_leader: bool,
}

impl View {
    /// What a service waits for; nothing when it is at rest.
    pub fn waiting_on(&self, service: &ServiceKey) -> &[WaitingOn] {
        self.waiting_on.get(service).map_or(&[], |waiting| waiting)
    }

    /// How many slots of a service are ready, available and up to date. `now` is the cluster's time: see
    /// [`View::reckoning`].
    pub fn counts(&self, service: &ServiceKey, now: Timestamp) -> orchestrator::Counts {
        orchestrator::counts(&self.state, &self.observed, service, now)
    }

    /// What the replicas placed on each node reserve.
    pub fn node_loads(&self) -> Vec<scheduler::NodeView> {
        scheduler::views(&self.state, &self.observed).1
    }

    /// How a node stands: what this leader hears of it, and what was decided.
    pub fn reach(&self, node: &Node) -> Reach {
        match (self.observed.is_ready(node.info.id), node.down) {
            (true, _) => Reach::Ready,
            (false, Some(_)) => Reach::Down,
            (false, None) => Reach::Unknown,
        }
    }

    /// When the view's leader was told of a node's silence, if it is silent.
    pub fn silent_since(&self, node: NodeId) -> Option<Timestamp> {
        let report = self.observed.node(node)?;
        (report.status == store::NodeStatus::Unknown).then_some(report.since)
    }
}

impl<C: Codec> Manager<C> {
    /// What a reader sees now. Costs a few reference counts.
    pub fn view(&self) -> View {
        let status = self.consensus.status();
        View {
            state: self.state.clone(),
            observed: self.observed.clone(),
            waiting_on: self.leader.waiting_on.clone(),
            reckoning: self.clock.reckoning(),
            is_leader: self.leader.leads(),
            leader: status.leader,
            membership: status.membership,
            members_waiting: self.members.waiting.clone(),
            levels: self.known_levels(),
            hears_leader: self.hears_leader(),
        }
    }
}
