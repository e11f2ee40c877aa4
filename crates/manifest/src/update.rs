//! The update policy: what a manifest asks for, and what follows from it and from the rest of the service.
//!
//! The order is start-first unless that is unsafe or impossible: two replicas at once must not write to the same path
//! of a host, at most one may run where a partition stops it, and without a surge no replica can be started before another has stopped. The limits follow from the
//! order: start-first adds up to a quarter and never lacks any; stop-first replaces one at a time. What is asked
//! for is never changed; where it contradicts itself, [`crate::check`] says so.

use model::{
    CountOrPercent, Millis, Mount, OnFailure, OnPartition, ReplicaTemplate, ServiceSpec, UpdateOrder,
    UpdatePolicy,
};

use crate::describe::template::{DAY, HOUR};
use crate::leaf::OneOf;
use crate::leaf::amount::{COUNT_OR_PERCENT, Span};
use crate::shape::Form;
use crate::shape::record::{Fields, Record, lens};

/// An update policy as it is written.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    order: Option<UpdateOrder>,
    max_surge: Option<CountOrPercent>,
    max_unavailable: Option<CountOrPercent>,
    /// For what does not depend on anything else.
    rest: UpdatePolicy,
}

pub(crate) fn shape() -> Record<Asked> {
    const ORDER: OneOf<UpdateOrder> =
        OneOf(&[("start-first", UpdateOrder::StartFirst), ("stop-first", UpdateOrder::StopFirst)]);
    const ON_FAILURE: OneOf<OnFailure> = OneOf(&[
        ("rollback", OnFailure::Rollback),
        ("pause", OnFailure::Pause),
        ("continue", OnFailure::Continue),
    ]);
    let deadline = || Span { min: Millis::from_secs(1), max: DAY };
    let fields = Fields::<Asked>::new()
        .optional(
            "order",
            "`start-first`: a new replica is ready before the old one stops. `stop-first`: the old one has ended before \
             the new one starts. By default start-first, but stop-first with a writable hostPath, with \
             `onPartition: stop` or a maxSurge of 0.",
            ORDER,
            lens!(order),
        )
        .optional(
            "maxSurge",
            "How many replicas there may be beyond `replicas`; a percentage is rounded up. Only for start-first, and \
             25% by default.",
            COUNT_OR_PERCENT,
            lens!(max_surge),
        )
        .optional(
            "maxUnavailable",
            "How many of `replicas` may be missing; a percentage is rounded down. By default 0 for start-first, and 1 \
             for stop-first.",
            COUNT_OR_PERCENT,
            lens!(max_unavailable),
        )
        .field(
            "minReady",
            "How long a new replica must stay ready before it counts as available.",
            Span { min: Millis::ZERO, max: HOUR },
            lens!(rest.min_ready),
        )
        .field(
            "healthyDeadline",
            "From the start of a replica's containers to being ready; past it the replica has failed. Fetching images \
             is not counted.",
            deadline(),
            lens!(rest.healthy_deadline),
        )
        .field(
            "progressDeadline",
            "How long a rollout may go on without any replica becoming available before it has failed.",
            deadline(),
            lens!(rest.progress_deadline),
        )
        .field(
            "onFailure",
            "`rollback`: go back to the last stable revision. `pause`: leave all as it is and wait for a person. \
             `continue`: go on with the other replicas.",
            ON_FAILURE,
            lens!(rest.on_failure),
        );
    Record::new("Update", "How a service moves from one revision to the next.", Asked::nothing(), fields)
}

impl Asked {
    pub(crate) fn nothing() -> Asked {
        Asked { order: None, max_surge: None, max_unavailable: None, rest: UpdatePolicy::default() }
    }

    /// What is asked for, with the rest filled in.
    pub(crate) fn resolve(&self, template: &ReplicaTemplate) -> UpdatePolicy {
        let no_surge = self.max_surge.is_some_and(is_zero);
        let default_order = match no_surge || writes_to_host(template) || runs_once(template) {
            true => UpdateOrder::StopFirst,
            false => UpdateOrder::StartFirst,
        };
        let order = self.order.unwrap_or(default_order);
        let (surge, unavailable) = match order {
            UpdateOrder::StartFirst => (CountOrPercent::Percent(25), CountOrPercent::Count(0)),
            UpdateOrder::StopFirst => (CountOrPercent::Count(0), CountOrPercent::Count(1)),
        };
        UpdatePolicy {
            order,
            max_surge: self.max_surge.unwrap_or(surge),
            max_unavailable: self.max_unavailable.unwrap_or(unavailable),
            ..self.rest
        }
    }

    /// What has to be asked for to get the policy of `spec`.
    pub(crate) fn of(spec: &ServiceSpec, form: Form) -> Asked {
        let all = Asked {
            order: Some(spec.update.order),
            max_surge: Some(spec.update.max_surge),
            max_unavailable: Some(spec.update.max_unavailable),
            rest: spec.update,
        };
        match form {
            Form::Full => all,
            Form::Short => all.shortest(spec),
        }
    }

    /// The least that says the same.
    fn shortest(self, spec: &ServiceSpec) -> Asked {
        // Each bit keeps one field; fewer come first, and then the order is said rather than a number.
        const SUBSETS: [u8; 7] = [0b000, 0b001, 0b010, 0b100, 0b011, 0b101, 0b110];
        let subset = |bits: u8| Asked {
            order: self.order.filter(|_| bits & 0b001 != 0),
            max_surge: self.max_surge.filter(|_| bits & 0b010 != 0),
            max_unavailable: self.max_unavailable.filter(|_| bits & 0b100 != 0),
            rest: self.rest,
        };
        let says_it = |asked: &Asked| asked.resolve(&spec.template) == spec.update;
        SUBSETS.into_iter().map(subset).find(says_it).unwrap_or(self.clone())
    }
}

pub(crate) fn is_zero(amount: CountOrPercent) -> bool {
    match amount {
        CountOrPercent::Count(count) => count == 0,
        CountOrPercent::Percent(percent) => percent == 0,
    }
}

/// Whether never two replicas of a slot may run.
pub(crate) fn runs_once(template: &ReplicaTemplate) -> bool {
    match template.on_partition {
        OnPartition::Stop => true,
        OnPartition::Continue => false,
    }
}

/// Whether two replicas on one node would write to the same files.
pub(crate) fn writes_to_host(template: &ReplicaTemplate) -> bool {
    let writable = |mount: &Mount| matches!(mount, Mount::HostPath { read_only: false, .. });
    template.containers().any(|container| container.mounts.iter().any(writable))
}
