//! The state itself and how it is read.

use std::{collections::BTreeSet, sync::Arc};

use imbl::{OrdMap, OrdSet, Vector};
use model::{
    AccessToken, ClusterTrust, Event, JoinToken, Level, Member, MemberId, Node, NodeId, Protocol, Replica,
    ReplicaId, ReplicaTemplate, Revision, RevisionNumber, RolloutPhase, Service, ServiceKey, Settings, Slot,
    Timestamp, TokenId, Version,
};

/// What every server agrees on after the log entry `version`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub(crate) version: Version,
    pub(crate) services: OrdMap<ServiceKey, Arc<Service>>,
    pub(crate) revisions: OrdMap<(ServiceKey, RevisionNumber), Arc<Revision>>,
    pub(crate) replicas: OrdMap<ReplicaId, Arc<Replica>>,
    pub(crate) nodes: OrdMap<NodeId, Arc<Node>>,
    /// Nodes that a user removed, and when: one that still speaks is told to stop what it runs.
    pub(crate) removed_nodes: OrdMap<NodeId, Timestamp>,
    pub(crate) settings: Settings,
    pub(crate) events: Vector<Arc<Event>>,
    pub(crate) members: OrdMap<MemberId, Arc<Member>>,
    /// None on a cluster of one host, which nobody joins.
    pub(crate) trust: Option<Arc<ClusterTrust>>,
    pub(crate) join_tokens: OrdMap<TokenId, Arc<JoinToken>>,
    pub(crate) access_tokens: OrdMap<TokenId, Arc<AccessToken>>,
    pub(crate) level: Level,
    pub(crate) decided_at: Option<Timestamp>,
    // Indexes: derived from the above, kept by the two functions that write replicas and services.
    pub(crate) by_service: OrdSet<(ServiceKey, Slot, ReplicaId)>,
    pub(crate) by_node: OrdSet<(NodeId, ReplicaId)>,
    pub(crate) published: OrdMap<(Protocol, u16), ServiceKey>,
}

/// All that a state is made of, without the indexes.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    pub services: Vec<Service>,
    pub revisions: Vec<(ServiceKey, Revision)>,
    pub replicas: Vec<Replica>,
    pub nodes: Vec<Node>,
    pub removed_nodes: Vec<(NodeId, Timestamp)>,
    pub settings: Settings,
    /// Oldest first.
    pub events: Vec<Event>,
    pub members: Vec<Member>,
    pub trust: Option<ClusterTrust>,
    pub join_tokens: Vec<JoinToken>,
    pub access_tokens: Vec<AccessToken>,
    pub level: Level,
    pub decided_at: Option<Timestamp>,
}

/// The lowest and highest bounds of an id, for ranges over the indexes.
const FIRST_REPLICA: ReplicaId = ReplicaId(0);
const LAST_REPLICA: ReplicaId = ReplicaId(u64::MAX);

impl State {
    /// How many events are kept; the oldest go first.
    pub const EVENTS_KEPT: usize = 2_000;

    /// The log index of the last command applied.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Every member knows it, and so does whoever reads this state.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The time in the last command that has one, by the cluster's clock. None before the first, and of a snapshot by a build
    /// that did not keep it. Nothing in the state follows from it, so members of several builds may differ here.
    pub fn decided_at(&self) -> Option<Timestamp> {
        self.decided_at
    }

    pub fn service(&self, key: &ServiceKey) -> Option<&Arc<Service>> {
        self.services.get(key)
    }

    /// In the order of namespace and name.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    pub fn revision(&self, key: &ServiceKey, number: RevisionNumber) -> Option<&Arc<Revision>> {
        self.revisions.get(&(key.clone(), number))
    }

    /// The kept revisions of a service, oldest first.
    pub fn revisions(&self, key: &ServiceKey) -> impl DoubleEndedIterator<Item = &Arc<Revision>> {
        let range = (key.clone(), RevisionNumber(0))..=(key.clone(), RevisionNumber(u64::MAX));
        self.revisions.range(range).map(|(_, revision)| revision)
    }

    /// The revisions of all services.
    pub fn all_revisions(&self) -> impl Iterator<Item = (&ServiceKey, &Arc<Revision>)> {
        self.revisions.iter().map(|((key, _), revision)| (key, revision))
    }

    pub fn replica(&self, id: ReplicaId) -> Option<&Arc<Replica>> {
        self.replicas.get(&id)
    }

    pub fn replicas(&self) -> impl Iterator<Item = &Arc<Replica>> {
        self.replicas.values()
    }

    /// The replicas of a service in the order of their slots.
    pub fn replicas_of(&self, key: &ServiceKey) -> impl Iterator<Item = &Arc<Replica>> {
        let first = Slot(std::num::NonZeroU32::MIN);
        let last = Slot(std::num::NonZeroU32::MAX);
        let range = (key.clone(), first, FIRST_REPLICA)..=(key.clone(), last, LAST_REPLICA);
        self.by_service.range(range).filter_map(|(_, _, id)| self.replicas.get(id))
    }

    pub fn replicas_on(&self, node: NodeId) -> impl Iterator<Item = &Arc<Replica>> {
        self.by_node
            .range((node, FIRST_REPLICA)..=(node, LAST_REPLICA))
            .filter_map(|(_, id)| self.replicas.get(id))
    }

    pub fn node(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.nodes.get(&id)
    }

    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    /// The node that had addresses of this node's subnet before it, if there is one. Then this one's replicas are reached
    /// on their own host only.
    pub fn subnet_conflict(&self, node: &Node) -> Option<&Arc<Node>> {
        let subnet = node.subnet?;
        let age = |node: &Node| (node.registered_at, node.info.id);
        self.nodes
            .values()
            .find(|other| age(other) < age(node) && other.subnet.is_some_and(|taken| taken.overlaps(subnet)))
    }

    /// When a user removed the node, if one did.
    pub fn node_removed_at(&self, id: NodeId) -> Option<Timestamp> {
        self.removed_nodes.get(&id).copied()
    }

    pub fn removed_nodes(&self) -> impl Iterator<Item = (NodeId, Timestamp)> {
        self.removed_nodes.iter().map(|(id, at)| (*id, *at))
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Oldest first.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = &Arc<Event>> {
        self.events.iter()
    }

    pub fn member(&self, id: MemberId) -> Option<&Arc<Member>> {
        self.members.get(&id)
    }

    /// Also those that were removed.
    pub fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.members.values()
    }

    pub fn trust(&self) -> Option<&Arc<ClusterTrust>> {
        self.trust.as_ref()
    }

    pub fn join_token(&self, id: TokenId) -> Option<&Arc<JoinToken>> {
        self.join_tokens.get(&id)
    }

    /// In no order that means anything.
    pub fn join_tokens(&self) -> impl Iterator<Item = &Arc<JoinToken>> {
        self.join_tokens.values()
    }

    pub fn access_token(&self, id: TokenId) -> Option<&Arc<AccessToken>> {
        self.access_tokens.get(&id)
    }

    /// In no order that means anything.
    pub fn access_tokens(&self) -> impl Iterator<Item = &Arc<AccessToken>> {
        self.access_tokens.values()
    }

    /// The service that a port of the nodes is balanced to.
    pub fn published_by(&self, protocol: Protocol, port: u16) -> Option<&ServiceKey> {
        self.published.get(&(protocol, port))
    }

    /// Puts a state together again from the objects of a snapshot; the indexes are derived.
    pub fn restore(version: Version, objects: Objects) -> State {
        let Objects { services, revisions, replicas, nodes, removed_nodes, settings, events, .. } = objects;
        let Objects { members, trust, join_tokens, access_tokens, level, decided_at, .. } = objects;
        let mut state = State { version, settings, level, decided_at, ..State::default() };
        for (key, revision) in revisions {
            state.revisions.insert((key, revision.number), Arc::new(revision));
        }
        // After the revisions, which say what the services publish.
        for service in services {
            state.put_service(service);
        }
        for replica in replicas {
            state.put_replica(replica);
        }
        state.nodes = nodes.into_iter().map(|node| (node.info.id, Arc::new(node))).collect();
        state.removed_nodes = removed_nodes.into_iter().collect();
        state.events = events.into_iter().map(Arc::new).collect();
        state.members = members.into_iter().map(|member| (member.id, Arc::new(member))).collect();
        state.trust = trust.map(Arc::new);
        state.join_tokens = join_tokens.into_iter().map(|token| (token.id, Arc::new(token))).collect();
        state.access_tokens = access_tokens.into_iter().map(|token| (token.id, Arc::new(token))).collect();
        state
    }

    pub(crate) fn put_service(&mut self, service: Service) {
        self.unpublish(&service.key);
        for port in self.ports_held(&service) {
            self.published.insert(port, service.key.clone());
        }
        self.services.insert(service.key.clone(), Arc::new(service));
    }

    pub(crate) fn drop_service(&mut self, key: &ServiceKey) {
        self.unpublish(key);
        self.services.remove(key);
        let numbers: Vec<RevisionNumber> = self.revisions(key).map(|revision| revision.number).collect();
        for number in numbers {
            self.revisions.remove(&(key.clone(), number));
        }
    }

    fn unpublish(&mut self, key: &ServiceKey) {
        let Some(service) = self.services.get(key).cloned() else { return };
        for port in self.ports_held(&service) {
            self.published.remove(&port);
        }
    }

    /// The ports that no other service may publish: those of the spec, of the revision that runs, and of the one that
    /// ran before while a rollback to it is still possible. The latter two can differ from the spec after a rollback.
    fn ports_held(&self, service: &Service) -> BTreeSet<(Protocol, u16)> {
        let before = match service.rollout.phase {
            RolloutPhase::Progressing | RolloutPhase::RollingBack { .. } | RolloutPhase::Paused { .. } => {
                service.rollout.from
            }
            RolloutPhase::Completed { .. } | RolloutPhase::RolledBack { .. } => None,
        };
        let revisions = [Some(service.revision), before].into_iter().flatten();
        let mut ports = published_ports(&service.spec.template);
        for revision in revisions.filter_map(|number| self.revision(&service.key, number)) {
            ports.append(&mut published_ports(&revision.template));
        }
        ports
    }

    /// Whether no other service publishes what a revision of this one publishes.
    pub fn may_publish(&self, key: &ServiceKey, revision: RevisionNumber) -> bool {
        let Some(revision) = self.revision(key, revision) else { return false };
        let is_free = |port: (Protocol, u16)| self.published.get(&port).is_none_or(|by| by == key);
        published_ports(&revision.template).into_iter().all(is_free)
    }

    pub(crate) fn put_replica(&mut self, replica: Replica) {
        self.by_service.insert((replica.service.clone(), replica.slot, replica.id));
        if let Some(node) = replica.node {
            self.by_node.insert((node, replica.id));
        }
        self.replicas.insert(replica.id, Arc::new(replica));
    }

    pub(crate) fn drop_replica(&mut self, id: ReplicaId) {
        let Some(replica) = self.replicas.remove(&id) else { return };
        self.by_service.remove(&(replica.service.clone(), replica.slot, id));
        if let Some(node) = replica.node {
            self.by_node.remove(&(node, id));
        }
    }

    pub(crate) fn record(&mut self, event: Event) {
        self.events.push_back(Arc::new(event));
        while self.events.len() > State::EVENTS_KEPT {
            self.events.pop_front();
        }
    }
}

fn published_ports(template: &ReplicaTemplate) -> BTreeSet<(Protocol, u16)> {
    template.ports.iter().filter_map(|port| Some((port.protocol, port.publish?))).collect()
}
