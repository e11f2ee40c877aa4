//! How far a rollout may stray from `wanted`, once percentages are rounded and contradictions settled.

use model::{Service, UpdateOrder};

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
    ///   asked for (a host port, a single writer), so that holds and availability yields.
    pub fn of(service: &Service) -> Limits {
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
                let max_unavailable = max_unavailable.max(1).min(wanted);
                Limits { wanted, max_surge: 0, max_unavailable, order: UpdateOrder::StopFirst }
            }
        }
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
