//! At rest: once there are no more faults and wishes, exactly what is desired runs, and everyone knows it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use agent::core::Published;
use manager::View;
use model::{
    Desired, Millis, Observed, OnFailure, Phase, Replica, ReplicaId, RolloutPhase, Service, Timestamp,
};
use scheduler::Decision;

use crate::{agents::Node, behaviour::Behaviour, server::Server, world::World};

/// The longest way: a rollout whose deadline passes, the rollback whose deadline passes, and retries between them.
const AT_LATEST: Millis = Millis(300_000);
/// It must stay so for a while.
const STAYS: Millis = Millis(5_000);

#[derive(Debug, Default)]
pub(crate) struct Rest {
    since: Option<Timestamp>,
}

impl World {
    pub(crate) fn check_rest(&mut self) {
        let now = self.cx.now;
        if let Some(state) = self.logs.state_at(self.agreement.newest()) {
            let asked = &self.users.asked_to_delete;
            self.history.check_acknowledged(&mut self.cx, state, |key| asked.contains(key));
        }
        if !self.cx.calm {
            return;
        }
        match self.unrest() {
            None => {
                let since = *self.rest.since.get_or_insert(now);
                if now.since(since) >= STAYS {
                    self.cx.at_rest = true;
                    self.history.check_stories(&mut self.cx);
                }
            }
            Some(why) => {
                self.rest.since = None;
                if now.since(self.plan.calm_at) > AT_LATEST {
                    self.cx.violate("everything comes to rest", why);
                }
            }
        }
    }

    /// What is not yet as it should be.
    fn unrest(&self) -> Option<String> {
        let leader =
            self.leading().and_then(|leader| Some((leader, self.servers[leader].published.as_ref()?)));
        let Some((leader, view)) = leader else { return Some("no server leads".to_owned()) };
        let tip = self.logs.tip(leader);
        if tip != self.agreement.newest() || self.logs.state_at(tip) != Some(&view.state) {
            return Some("something decided is not applied yet".to_owned());
        }
        if let Some(why) = self.unrest_of_members(view) {
            return Some(why);
        }
        let follows = |server: &Server| {
            let has_a_part = view.membership.contains(server.member) && !server.is_gone;
            !has_a_part
                || server.published.as_ref().is_some_and(|seen| seen.state.version() == view.state.version())
        };
        if let Some(behind) = self.servers.iter().position(|server| !follows(server)) {
            return Some(format!("server {behind} does not follow: {:?}", self.servers[behind].status()));
        }
        if self.users.are_waiting() {
            return Some("users wait for answers".to_owned());
        }
        let services = view.state.services().find_map(|service| self.unrest_of_service(view, service));
        services
            .or_else(|| unplaced(view))
            .or_else(|| self.nodes.iter().find_map(|node| self.unrest_of_node(view, node)))
    }

    fn unrest_of_service(&self, view: &View, service: &Service) -> Option<String> {
        let key = &service.key;
        if service.deleting_since.is_some() {
            return Some(format!("{key} is still being deleted"));
        }
        let replicas: Vec<&Replica> = view.state.replicas_of(key).map(|replica| &**replica).collect();
        let slots: BTreeSet<u32> = replicas.iter().map(|replica| replica.slot.get()).collect();
        let wanted: BTreeSet<u32> = (1..=service.spec.replicas).collect();
        if slots != wanted {
            return Some(format!("{key}: slots {slots:?} of {wanted:?}"));
        }
        match &service.rollout.phase {
            RolloutPhase::Paused { .. } => None,
            RolloutPhase::Progressing if service.spec.update.on_failure == OnFailure::Continue => None,
            RolloutPhase::Progressing | RolloutPhase::RollingBack { .. } => {
                Some(format!("{key}: {:?}, waiting on {:?}", service.rollout, view.waiting_on(key)))
            }
            RolloutPhase::Completed { .. } | RolloutPhase::RolledBack { .. } => {
                let strange = replicas.iter().find(|replica| replica.revision != service.revision);
                let doubled = replicas.len() != wanted.len();
                (doubled || strange.is_some()).then(|| format!("{key}: has {replicas:?}"))
            }
        }
    }

    fn unrest_of_node(&self, view: &View, node: &Node) -> Option<String> {
        let name = &node.info.name;
        let Some(agent) = node.agent.as_ref().filter(|agent| agent.session.is_some()) else {
            return Some(format!("{name} has no session"));
        };
        let assigned: BTreeMap<ReplicaId, &Replica> =
            view.state.replicas_on(node.info.id).map(|replica| (replica.id, &**replica)).collect();
        let known: BTreeSet<ReplicaId> = node.ledger.records().map(|record| record.id()).collect();
        if !known.iter().eq(assigned.keys()) {
            return Some(format!("{name}: knows {known:?}, is assigned {:?}", assigned.keys()));
        }
        let stranger = node.host.sandboxes.keys().find(|id| !assigned.contains_key(id));
        let orphan = node.host.running().find(|(id, _)| !assigned.contains_key(&id.replica));
        if stranger.is_some() || orphan.is_some() {
            return Some(format!("{name}: strange sandbox {stranger:?}, strange process {orphan:?}"));
        }
        let observed = agent.core.observed();
        for replica in assigned.values().copied().filter(|replica| self.comes_to_rest(view, replica)) {
            let said = view.observed.replica(replica.id).map(|seen| timeless(seen));
            let seen = observed.iter().find(|seen| seen.replica == replica.id).map(timeless);
            if said != seen {
                return Some(format!("{name}: {} is {seen:?}, the server thinks {said:?}", replica.id));
            }
            if let Some(why) = self.unrest_of_replica(view, node, replica) {
                return Some(format!("{name}: {why}; seen as {seen:?}"));
            }
        }
        self.unbalanced(view, node)
    }

    /// Exactly the ready ones stand behind the published ports, those of other nodes too.
    fn unbalanced(&self, view: &View, node: &Node) -> Option<String> {
        let mut expected = Balanced::new();
        // Of replicas elsewhere that never come to rest a node may just not have heard the newest yet.
        let mut restless: BTreeSet<Ipv4Addr> = BTreeSet::new();
        for other in &self.nodes {
            let is_here = other.info.id == node.info.id;
            for record in other.ledger.records() {
                let Some(replica) = view.state.replica(record.id()) else { continue };
                let ready = record.address.filter(|_| record.ready_since.is_some());
                if !is_here && !self.comes_to_rest(view, replica) {
                    restless.extend(record.address);
                    continue;
                }
                let ports = record.assignment.template.ports.iter().filter_map(|port| port.publish);
                for publish in ports.filter(|_| is_here || ready.is_some()) {
                    expected.entry(publish).or_default().extend(ready);
                }
            }
        }
        let found: Balanced = node
            .host
            .in_force
            .iter()
            .filter_map(|Published { port, backends, .. }| {
                let all = backends.iter().map(|backend| *backend.ip());
                let settled: BTreeSet<Ipv4Addr> = all.filter(|address| !restless.contains(address)).collect();
                let is_restless = settled.is_empty() && !backends.is_empty() && !expected.contains_key(port);
                (!is_restless).then_some((*port, settled))
            })
            .collect();
        (found != expected).then(|| format!("{}: balances {found:?}, should {expected:?}", node.info.name))
    }

    fn comes_to_rest(&self, view: &View, replica: &Replica) -> bool {
        let revision = view.state.revision(&replica.service, replica.revision);
        revision.is_some_and(|revision| Behaviour::of(&revision.template.main).comes_to_rest())
    }

    fn unrest_of_replica(&self, view: &View, node: &Node, replica: &Replica) -> Option<String> {
        let id = replica.id;
        let mut running: Vec<&str> = node
            .host
            .running()
            .filter(|(of, _)| of.replica == id)
            .map(|(of, _)| of.container.as_str())
            .collect();
        running.sort_unstable();
        match replica.desired {
            Desired::Stopped => Some(format!("{id} is still stopping")),
            Desired::Prepared => {
                let is_there = node.host.sandboxes.contains_key(&id) && running.is_empty();
                (!is_there).then(|| format!("{id} is not just prepared: {running:?}"))
            }
            Desired::Running => {
                let revision = view.state.revision(&replica.service, replica.revision)?;
                let template = &revision.template;
                let phase = node.ledger.get(id).map(|record| record.phase);
                let service = view.state.service(&replica.service)?;
                let is_paused = matches!(service.rollout.phase, RolloutPhase::Paused { .. });
                if phase == Some(Phase::Failed) && !is_paused {
                    return Some(format!("{id} has failed and is not replaced"));
                }
                let ended = matches!(phase, Some(Phase::Completed | Phase::Failed));
                let specs = template.sidecars.iter().chain([&template.main]);
                let mut wanted: Vec<&str> = specs.map(|spec| spec.name.as_str()).collect();
                wanted.sort_unstable();
                // One that ended for good by its restart policy has nothing left to run.
                let expected = if ended { Vec::new() } else { wanted };
                if running != expected {
                    return Some(format!("{id} runs {running:?}, should run {expected:?}"));
                }
                (!ended && !self.serves(replica)).then(|| format!("{id} is not ready"))
            }
        }
    }
}

/// Published ports, and who is behind each.
type Balanced = BTreeMap<u16, BTreeSet<Ipv4Addr>>;

/// What waits for a place though there is one.
fn unplaced(view: &View) -> Option<String> {
    let (pending, nodes) = scheduler::views(&view.state, &view.observed);
    scheduler::place(&pending, &nodes).into_iter().find_map(|decision| match decision {
        Decision::Placed { replica, node } => Some(format!("{replica} could be placed on {}", node.0)),
        Decision::Unplaceable { .. } => None,
    })
}

/// Without its times, which nodes and servers tell by clocks of their own.
fn timeless(seen: &Observed) -> Observed {
    let mut seen = seen.clone();
    seen.translate(|_| Timestamp(0));
    seen
}
