//! What users asked, what they were told and when: nothing acknowledged is lost, and every answer, from whichever server,
//! fits into one story per service.

use std::collections::BTreeMap;

use manager::Applied;
use model::{Generation, ServiceKey, Timestamp, Version};
use store::{Outcome, State};

use super::{
    linear::{Operation, is_linearizable},
    service::{Action, Life, Told},
};
use crate::world::Context;

#[derive(Debug, Default)]
pub(crate) struct History {
    acknowledged: BTreeMap<ServiceKey, Acknowledged>,
    acknowledged_index: u64,
    /// Counts whatever somebody asked or was told.
    moment: u64,
    stories: BTreeMap<ServiceKey, Vec<Operation<Action>>>,
}

/// Where a question stands in its story.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    service: ServiceKey,
    at: usize,
}

/// The last that a user was told of a service.
#[derive(Clone, Debug)]
struct Acknowledged {
    index: u64,
    generation: Generation,
    /// Tells one life of a service from another of the same name.
    created_at: Option<Timestamp>,
    is_deleted: bool,
}

impl History {
    pub(crate) fn acknowledged_version(&self) -> Version {
        Version(self.acknowledged_index)
    }

    fn next_moment(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    /// Somebody asks. Until there is an answer it may happen at any time, or never.
    pub(crate) fn asks(&mut self, service: ServiceKey, action: Action) -> Asked {
        let began = self.next_moment();
        let story = self.stories.entry(service.clone()).or_default();
        story.push(Operation { began, ended: None, action });
        Asked { service, at: story.len() - 1 }
    }

    pub(crate) fn is_told(&mut self, asked: &Asked, applied: &Applied) {
        self.acknowledge(applied);
        let told = Told::of(applied);
        self.ends(asked, |action| action.answered(told));
    }

    /// It did not happen. Where that is because the service is not there, that is an answer too.
    pub(crate) fn is_refused(&mut self, asked: &Asked, is_missing: bool) {
        if is_missing {
            return self.ends(asked, |_| Action::Missed);
        }
        if let Some(operation) = self.operation(asked) {
            operation.action = Action::Refused;
        }
    }

    fn operation(&mut self, asked: &Asked) -> Option<&mut Operation<Action>> {
        self.stories.get_mut(&asked.service)?.get_mut(asked.at)
    }

    fn ends(&mut self, asked: &Asked, with: impl FnOnce(Action) -> Action) {
        let now = self.next_moment();
        if let Some(operation) = self.operation(asked) {
            operation.ended = Some(now);
            operation.action = with(operation.action.clone());
        }
    }

    /// When a reader asks.
    pub(crate) fn begins_to_read(&mut self) -> u64 {
        self.next_moment()
    }

    /// A reader sees all services at once; each is a word in its own story.
    pub(crate) fn reads(&mut self, began: u64, services: impl Iterator<Item = ServiceKey>, state: &State) {
        let ended = Some(self.next_moment());
        for service in services {
            let action = Action::read(state, &service);
            self.stories.entry(service).or_default().push(Operation { began, ended, action });
        }
    }

    fn acknowledge(&mut self, applied: &Applied) {
        let current = applied.current.as_ref();
        let index = current.map_or(0, |service| service.version.0);
        self.acknowledged_index = self.acknowledged_index.max(index);
        let acknowledged = Acknowledged {
            index,
            generation: applied.generation,
            created_at: current.map(|service| service.created_at),
            is_deleted: applied.outcome == Outcome::Deleted,
        };
        let known = self.acknowledged.entry(applied.service.clone()).or_insert(acknowledged.clone());
        if known.index <= index {
            *known = acknowledged;
        }
    }

    /// By name and number, not by index: what a user would look at.
    pub(crate) fn check_acknowledged(
        &self,
        cx: &mut Context,
        state: &State,
        may_be_gone: impl Fn(&ServiceKey) -> bool,
    ) {
        for (key, told) in &self.acknowledged {
            let is_kept = match state.service(key) {
                // Another of the same name, or none: somebody must have wanted the first away.
                None => told.is_deleted || may_be_gone(key),
                Some(now) if Some(now.created_at) != told.created_at => told.is_deleted || may_be_gone(key),
                Some(now) if told.is_deleted => now.deleting_since.is_some(),
                Some(now) => now.generation >= told.generation,
            };
            if !is_kept {
                let is = state.service(key).map(|service| service.generation);
                cx.violate("nothing acknowledged is lost", format!("{key}: told {told:?}, is {is:?}"));
            }
        }
    }

    /// At the end, of all that was asked and told.
    pub(crate) fn check_stories(&self, cx: &mut Context) {
        for (service, story) in &self.stories {
            if !is_linearizable(story, Life::Absent) {
                cx.violate("answers fit into one story", format!("{service}:\n{}", Story(story)));
            }
        }
    }
}

/// A story in lines, in the order of its beginnings.
struct Story<'a>(&'a [Operation<Action>]);

impl std::fmt::Display for Story<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts = |operation: &&Operation<Action>| !matches!(operation.action, Action::Refused);
        let mut lines: Vec<&Operation<Action>> = self.0.iter().filter(counts).collect();
        lines.sort_by_key(|operation| operation.began);
        for Operation { began, ended, action } in lines {
            match ended {
                Some(ended) => writeln!(f, "  {began:>3} to {ended:>3}: {action:?}")?,
                None => writeln!(f, "  {began:>3} to   ?: {action:?}")?,
            }
        }
        Ok(())
    }
}
