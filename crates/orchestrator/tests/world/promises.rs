//! The reconciler, and what it must never do.

use std::collections::BTreeMap;

use model::{Desired, OnPartition, Phase, Replica, Scheduling, StopReason, UpdateOrder};
use orchestrator::{Limits, Plan};
use store::Step;

use crate::World;

impl World {
    pub(crate) fn reconcile(&mut self) {
        let service = self.service.clone();
        let before = Count::of(self);
        self.note_given_up();
        let plan = self.cluster.plan(&service);
        assert!(plan.wake_at.is_none_or(|at| at > self.cluster.now), "{plan:?}");
        let stops_ready = self.stops_truly_ready(&plan);
        self.cluster.commit_plan(&service, &plan);
        self.note_given_up();
        for step in &plan.steps {
            match step {
                Step::Forget { id } => {
                    self.told.remove(id);
                }
                Step::Complete => self.tally.completed += 1,
                Step::RollBack { .. } => self.tally.failed += 1,
                Step::Pause { .. } => self.tally.paused += 1,
                Step::RolledBack => self.tally.rolled_back += 1,
                _ => {}
            }
        }
        let after = Count::of(self);
        let limits = Limits::of(&self.cluster.state, self.cluster.service(&service));
        if stops_ready {
            assert!(after.available >= limits.must_be_available(), "{limits:?} {after:?} after {plan:#?}");
        }
        assert!(after.extra <= before.extra.max(limits.max_surge), "{limits:?} {after:?} after {plan:#?}");
        assert!(after.twins <= before.twins, "two live replicas of one revision in a slot after {plan:#?}");
        let again = self.cluster.plan(&service);
        assert_eq!(again.steps, [], "the first plan was not all that could be done: {plan:#?}");
        self.tell_all();
    }

    /// Whether the plan stops, to replace it, a replica that does serve, whatever the leader knows of that.
    fn stops_truly_ready(&self, plan: &Plan) -> bool {
        let wanted = self.cluster.service(&self.service).wanted();
        plan.steps.iter().any(|step| match step {
            Step::Stop {
                id,
                reason:
                    StopReason::Replaced { .. }
                    | StopReason::Failed { .. }
                    | StopReason::NodeDrained { .. }
                    | StopReason::Misplaced { .. }
                    | StopReason::Surplus,
            } => {
                let is_ready = self.truth.get(id).is_some_and(|seen| seen.ready_since.is_some());
                let slot = self.cluster.state.replica(*id).map(|replica| replica.slot.get());
                is_ready && slot.is_some_and(|slot| slot <= wanted)
            }
            _ => false,
        })
    }

    /// Of two that run in a slot the older one never is one that its node stops without the control plane; the younger
    /// one is only where the older one was given up with its node, and does not stop there.
    fn check_at_most_one(&self) {
        let mut running: BTreeMap<_, &Replica> = BTreeMap::new();
        let mut replicas: Vec<&Replica> = self.cluster.state.replicas().map(|replica| &**replica).collect();
        replicas.sort_by_key(|replica| (replica.created_at, replica.revision));
        for replica in replicas {
            let seen = self.truth.get(&replica.id);
            if !seen.is_some_and(|seen| matches!(seen.phase, Phase::Running | Phase::Stopping)) {
                continue;
            }
            let Some(older) = running.insert(replica.slot, replica) else { continue };
            let (first, second) = (self.on_partition(older), self.on_partition(replica));
            assert_eq!(first, OnPartition::Continue, "{} and {} run at once", older.id, replica.id);
            let is_given_up = second == OnPartition::Continue || self.given_up.contains(&older.id);
            assert!(is_given_up, "{} and {} run at once", older.id, replica.id);
        }
    }

    fn note_given_up(&mut self) {
        for replica in self.cluster.state.replicas().filter(|replica| replica.desired == Desired::Stopped) {
            let node = replica.node.and_then(|node| self.cluster.state.node(node));
            let is_down = node.is_some_and(|node| node.down.is_some());
            if is_down && !replica.node.is_some_and(|node| self.cluster.observed.is_ready(node)) {
                self.given_up.insert(replica.id);
            }
        }
    }

    /// With stop-first no two replicas of a slot ever have processes at the same time, but for one that was given up
    /// with its node.
    pub(crate) fn check_exclusive(&self) {
        self.check_at_most_one();
        if self.order == UpdateOrder::StartFirst {
            return;
        }
        let mut running = BTreeMap::new();
        for replica in self.cluster.state.replicas() {
            let seen = self.truth.get(&replica.id);
            if self.given_up.contains(&replica.id) {
                continue;
            }
            if seen.is_some_and(|seen| matches!(seen.phase, Phase::Running | Phase::Stopping)) {
                let other = running.insert(replica.slot, replica.id);
                assert_eq!(other, None, "two replicas run in slot {}", replica.slot);
            }
        }
    }
}

/// What the leader can know of the slots, counted in the plainest way.
#[derive(Debug)]
struct Count {
    /// Replicas of wanted slots that serve for long enough and are not told to stop.
    available: u32,
    /// Live replicas beyond one per wanted slot.
    extra: u32,
    /// Live replicas of the same slot and revision as another, where both may stay on their nodes.
    twins: u32,
}

impl Count {
    fn of(world: &World) -> Count {
        let (cluster, observed) = (&world.cluster, &world.cluster.observed);
        let service = cluster.service(&world.service);
        let mut count = Count { available: 0, extra: 0, twins: 0 };
        let mut live: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        for replica in cluster.state.replicas_of(&world.service) {
            let is_wanted = replica.slot.get() <= service.wanted();
            if !is_wanted || replica.desired != Desired::Running {
                continue;
            }
            let seen = observed.replica(replica.id);
            let is_heard = replica.node.is_some_and(|node| observed.is_ready(node));
            let since = seen.and_then(|seen| seen.ready_since).filter(|_| is_heard);
            let is_available =
                since.is_some_and(|since| since + service.spec.update.min_ready <= cluster.now);
            count.available += u32::from(is_available);
            if seen.is_none_or(|seen| seen.phase < Phase::Completed) {
                let node = replica.node.and_then(|node| cluster.state.node(node));
                if !is_heard && node.is_some_and(|node| node.down.is_some()) {
                    continue;
                }
                let leaves = node.is_some_and(|node| {
                    let is_drained = matches!(node.scheduling, Scheduling::Draining { .. });
                    is_drained || service.spec.placement.lacking(&node.effective_labels()).is_some()
                });
                live.entry(replica.slot.get()).or_default().push((replica.revision, leaves));
            }
        }
        for revisions in live.values_mut() {
            count.extra += revisions.len() as u32 - 1;
            revisions.retain(|(_, leaves)| !leaves);
            let all = revisions.len();
            revisions.sort_unstable();
            revisions.dedup();
            count.twins += (all - revisions.len()) as u32;
        }
        count
    }
}
