//! The plan in the making: the service's slots as they will be once the steps so far are committed.
//!
//! Every step is added here and nowhere else, together with what it does to the slots, so that what is decided later
//! in the same plan counts with what was decided before.

use std::collections::BTreeMap;

use model::{
    Desired, IdSource, RevisionNumber, Rollout, RolloutPhase, Service, Slot, StopReason, Timestamp,
    UpdateOrder,
};
use store::{Observations, State, Step};

use crate::{limits::Limits, member::Member, stay::Stay};

pub(crate) struct Draft<'a> {
    state: &'a State,
    pub(crate) service: &'a Service,
    pub(crate) now: Timestamp,
    pub(crate) limits: Limits,
    /// The revision that every slot should run.
    pub(crate) target: RevisionNumber,
    /// As the steps so far leave it.
    pub(crate) rollout: Rollout,
    /// Something could have been stopped but for the promise of availability.
    pub(crate) is_held_by_promise: bool,
    /// One that serves at the target was stopped for its node's sake.
    pub(crate) gave_way: bool,
    /// Never with an empty list.
    slots: BTreeMap<Slot, Vec<Member<'a>>>,
    steps: Vec<Step>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(
        state: &'a State,
        observations: &'a Observations,
        service: &'a Service,
        now: Timestamp,
    ) -> Draft<'a> {
        let mut slots: BTreeMap<Slot, Vec<Member<'a>>> = BTreeMap::new();
        for replica in state.replicas_of(&service.key) {
            slots.entry(replica.slot).or_default().push(Member::new(
                replica,
                Stay::of(state, observations, service, replica, now),
                observations,
            ));
        }
        for members in slots.values_mut() {
            // Ids are random; the order in which replicas came about is not.
            members.sort_by_key(|member| (member.revision, member.created_at, member.id));
        }
        Draft {
            state,
            service,
            now,
            limits: Limits::of(state, service),
            target: service.revision,
            rollout: service.rollout.clone(),
            is_held_by_promise: false,
            gave_way: false,
            slots,
            steps: Vec::new(),
        }
    }

    pub(crate) fn into_steps(self) -> Vec<Step> {
        self.steps
    }

    // What the slots are like.

    pub(crate) fn wanted_slots(&self) -> impl Iterator<Item = Slot> + use<> {
        (1..=self.limits.wanted).filter_map(Slot::new)
    }

    /// All replicas in the order of their slots.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member<'a>> {
        self.slots.values().flatten()
    }

    pub(crate) fn slot(&self, slot: Slot) -> &[Member<'a>] {
        self.slots.get(&slot).map_or(&[], Vec::as_slice)
    }

    /// The replica that a slot has or is getting: of the target, and where it may stay.
    ///
    /// There are several when something that was to leave may stay after all. Then it is the one that serves, or else
    /// the one that came first.
    pub(crate) fn successor(&self, slot: Slot) -> Option<Member<'a>> {
        let fits = |member: &&Member<'a>| self.is_kept_at_target(member) && !member.stay.leaves();
        let worth = |member: &&Member<'a>| (self.is_available(member), member.desired == Desired::Running);
        // Of equals `max_by_key` takes the last.
        self.slot(slot).iter().rev().filter(fits).max_by_key(worth).copied()
    }

    /// Every other replica that a slot still keeps: of another revision, to leave its node, or one too many. The newest
    /// first, as the least proven.
    pub(crate) fn olds(&self, slot: Slot) -> impl Iterator<Item = &Member<'a>> {
        let successor = self.successor(slot).map(|member| member.id);
        self.slot(slot).iter().rev().filter(move |member| member.is_kept() && Some(member.id) != successor)
    }

    pub(crate) fn is_kept_at_target(&self, member: &Member<'_>) -> bool {
        member.is_kept() && member.revision == self.target
    }

    pub(crate) fn is_available(&self, member: &Member<'_>) -> bool {
        let min_ready = self.service.spec.update.min_ready;
        member.available_from(min_ready).is_some_and(|from| from <= self.now)
    }

    /// How many replicas serve and are not about to stop. Those of slots that are not wanted do not count.
    pub(crate) fn available(&self) -> u32 {
        let wanted = self.limits.wanted;
        self.members().filter(|m| m.slot.get() <= wanted && self.is_available(m)).count() as u32
    }

    /// In how many slots one of the target serves. One that is to leave its node counts: that is no matter of revisions.
    pub(crate) fn available_at_target(&self) -> u32 {
        let serves = |member: &Member<'_>| self.is_kept_at_target(member) && self.is_available(member);
        self.wanted_slots().filter(|&slot| self.slot(slot).iter().any(serves)).count() as u32
    }

    pub(crate) fn is_all_available_at_target(&self) -> bool {
        self.available_at_target() == self.limits.wanted
    }

    /// Whether a new replica of the slot may run beside what there is of older ones.
    pub(crate) fn may_run_in(&self, slot: Slot) -> bool {
        match self.limits.order {
            UpdateOrder::StartFirst => true,
            UpdateOrder::StopFirst => self.is_vacated(slot),
        }
    }

    /// None of the slot's replicas runs, but for what is given up with its node. Only then may one start that was held
    /// prepared, whatever the order is by now: it was placed into the room of the one before it.
    pub(crate) fn is_vacated(&self, slot: Slot) -> bool {
        let is_out_of_the_way = |member: &Member<'_>| {
            let is_given_up = !member.is_kept() && member.stay.is_lost();
            member.has_ended() || member.desired == Desired::Prepared || is_given_up
        };
        self.slot(slot).iter().all(is_out_of_the_way)
    }

    // What the plan does.

    /// Forgets what left nothing behind.
    pub(crate) fn forget_removed(&mut self) {
        let gone = self.members().filter(|member| member.is_gone());
        let steps: Vec<Step> = gone.map(|member| Step::Forget { id: member.id }).collect();
        self.steps.extend(steps);
        self.slots.retain(|_, members| {
            members.retain(|member| !member.is_gone());
            !members.is_empty()
        });
        self.find_limits();
    }

    fn find_limits(&mut self) {
        let placed = self.slots.values().flatten().filter(|member| member.node.is_some());
        let there = placed.map(|member| member.revision);
        self.limits = Limits::among(self.state, self.service, there.chain([self.target]));
    }

    pub(crate) fn create(
        &mut self,
        slot: Slot,
        revision: RevisionNumber,
        desired: Desired,
        ids: &mut IdSource,
    ) {
        let id = ids.replica();
        self.steps.push(Step::Create { id, slot, revision, desired });
        let member = Member::created(id, slot, revision, desired, self.now);
        self.slots.entry(slot).or_default().push(member);
    }

    pub(crate) fn start(&mut self, member: &Member<'_>) {
        self.steps.push(Step::Start { id: member.id });
        self.set_desired(member, Desired::Running);
    }

    /// A replica that no node has yet is forgotten at once: nobody else could say that it is gone.
    pub(crate) fn stop(&mut self, member: &Member<'_>, reason: StopReason) {
        let for_node = matches!(reason, StopReason::NodeDrained { .. } | StopReason::Misplaced { .. });
        self.gave_way |= for_node && self.is_kept_at_target(member) && self.is_available(member);
        self.steps.push(Step::Stop { id: member.id, reason });
        self.set_desired(member, Desired::Stopped);
        if member.node.is_some() {
            return;
        }
        self.steps.push(Step::Forget { id: member.id });
        if let Some(members) = self.slots.get_mut(&member.slot) {
            members.retain(|other| other.id != member.id);
            if members.is_empty() {
                self.slots.remove(&member.slot);
            }
        }
    }

    fn set_desired(&mut self, member: &Member<'_>, desired: Desired) {
        let members = self.slots.get_mut(&member.slot).into_iter().flatten();
        for other in members.filter(|other| other.id == member.id) {
            assert!(other.desired.may_become(desired), "{other:?} cannot become {desired:?}");
            other.desired = desired;
        }
    }

    pub(crate) fn progressed(&mut self, available: u32) {
        self.steps.push(Step::Progressed { available });
        self.rollout.available = available;
        self.rollout.progressed_at = self.now;
    }

    pub(crate) fn roll_back(&mut self, back_to: RevisionNumber, reason: String) {
        self.steps.push(Step::RollBack { back_to, reason: reason.clone() });
        self.target = back_to;
        self.find_limits();
        self.rollout.available = 0;
        self.rollout.progressed_at = self.now;
        self.rollout.phase = RolloutPhase::RollingBack { back_to, reason };
    }

    pub(crate) fn pause(&mut self, reason: String) {
        self.steps.push(Step::Pause { reason: reason.clone() });
        self.rollout.phase = RolloutPhase::Paused { reason, at: self.now };
    }

    pub(crate) fn complete(&mut self) {
        self.steps.push(Step::Complete);
        self.rollout.phase = RolloutPhase::Completed { at: self.now };
    }

    pub(crate) fn rolled_back(&mut self, reason: String) {
        self.steps.push(Step::RolledBack);
        let back_to = self.target;
        self.rollout.phase = RolloutPhase::RolledBack { back_to, reason, at: self.now };
    }

    pub(crate) fn remove(&mut self) {
        assert!(self.slots.is_empty(), "a service goes after its last replica");
        self.steps.push(Step::Remove);
    }
}
