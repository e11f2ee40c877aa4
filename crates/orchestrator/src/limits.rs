//! How far a rollout may stray from `wanted`, once percentages are rounded and contradictions settled.

use model::{OnPartition, RevisionNumber, Service, UpdateOrder};
use store::State;

/// The bounds that a rollout of a service really keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub wanted: u32,
    /// How many slots may have a live old and a live new replica.
    pub max_surge: u32,
    pub max_unavailable: u32,
    pub order: UpdateOrder,
}

impl Limits {
    /// Some policies cannot be kept to the letter, mostly because a percentage of few replicas rounds to none:
    /// - start-first without any surge replaces stop-first if it may be unavailable, and else surges by one;
    /// - stop-first without any unavailability is unavailable by one: that only one runs per slot is what it is
    ///   asked for (a host port, a single writer), so that holds and availability yields;
    /// - where the revision that runs or is to run has `onPartition: stop`, it is stop-first whatever the policy says,
    ///   which may be older or newer than that revision: never more than one runs in a slot.
    pub fn of(state: &State, service: &Service) -> Limits {
        let placed = state.replicas_of(&service.key).filter(|replica| replica.node.is_some());
        let there = placed.map(|replica| replica.revision);
        Limits::among(state, service, there.chain([service.revision]))
    }

    /// The same where these revisions run or are to run.
    pub(crate) fn among(
        state: &State,
        service: &Service,
        mut revisions: impl Iterator<Item = RevisionNumber>,
    ) -> Limits {
        let runs_once = revisions.any(|revision| {
            let revision = state.revision(&service.key, revision);
            revision.is_some_and(|known| known.template.on_partition == OnPartition::Stop)
        });
        let limits = Limits::by_policy(service);
        if runs_once { limits.stop_first() } else { limits }
    }

    fn by_policy(service: &Service) -> Limits {
        let wanted = service.wanted();
        let policy = &service.spec.update;
        let max_surge = policy.max_surge.of_rounded_up(wanted);
        let max_unavailable = policy.max_unavailable.of_rounded_down(wanted).min(wanted);
        match policy.order {
            UpdateOrder::StartFirst if max_surge == 0 && max_unavailable > 0 => {
                Limits { wanted, max_surge, max_unavailable, order: UpdateOrder::StopFirst }
            }
            UpdateOrder::StartFirst => Limits {
                wanted,
                max_surge: max_surge.max(1),
                max_unavailable,
                order: UpdateOrder::StartFirst,
            },
            UpdateOrder::StopFirst => {
                Limits { wanted, max_surge, max_unavailable, order: UpdateOrder::StopFirst }.stop_first()
            }
        }
    }

    fn stop_first(self) -> Limits {
        let max_unavailable = self.max_unavailable.max(1).min(self.wanted);
        Limits { max_surge: 0, max_unavailable, order: UpdateOrder::StopFirst, ..self }
    }

    /// How many replicas must stay available.
    pub fn must_be_available(&self) -> u32 {
        self.wanted - self.max_unavailable
    }

    /// How many replicas stop-first keeps prepared for their turn: those that may take their turn together.
    pub(crate) fn prepared_ahead(&self) -> u32 {
        self.max_unavailable.max(1)
    }
}
