//! How a service stands, in numbers that people and tables want.

use model::{ServiceKey, Timestamp};
use store::{Observations, State};

use crate::draft::Draft;

/// Counted in slots that are wanted; each is at most `wanted`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// With a replica that serves, of whatever revision.
    pub ready: u32,
    /// With one that has been ready for as long as the service's `min_ready` asks.
    pub available: u32,
    /// With a replica of the revision that is wanted now, not stopping.
    pub up_to_date: u32,
}

pub fn counts(state: &State, observed: &Observations, service: &ServiceKey, now: Timestamp) -> Counts {
    let Some(service) = state.service(service) else { return Counts::default() };
    let draft = Draft::new(state, observed, service, now);
    let mut counts = Counts::default();
    for slot in draft.wanted_slots() {
        let members = draft.slot(slot);
        counts.ready += u32::from(members.iter().any(|member| member.is_ready()));
        counts.available += u32::from(members.iter().any(|member| draft.is_available(member)));
        counts.up_to_date += u32::from(members.iter().any(|member| draft.is_kept_at_target(member)));
    }
    counts
}
