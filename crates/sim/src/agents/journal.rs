//! Save first, then act.
//!
//! Lists of actions are worked off in their order, each after its save; a list of which nothing waits for its save goes
//! ahead, and what it saves goes along with a later save, as the real shell does it.

use std::collections::VecDeque;

use agent::core::{Action, Change};

use super::Agent;
use crate::{
    bug::Bug,
    world::{Happening, World},
};

impl Agent {
    /// The actions without their save, where none of them waits for it and nothing before them is still to be saved.
    pub(super) fn put_off(&mut self, mut actions: VecDeque<Action>) -> VecDeque<Action> {
        let saves = |list: &VecDeque<Action>| matches!(list.front(), Some(Action::Save(_)));
        let holds_up = self.saving.is_some() || self.lists.iter().any(saves);
        let waits = actions.iter().skip(1).any(Action::waits_for_save);
        if saves(&actions)
            && !holds_up
            && !waits
            && let Some(Action::Save(changes)) = actions.pop_front()
        {
            self.lazy.extend(changes);
        }
        actions
    }
}

impl World {
    /// What was put off is saved a moment later at the latest.
    pub(crate) fn ledger_is_due(&mut self, node: usize, life: u32) {
        let is_due = |agent: &mut Agent| agent.saving.is_none() && !agent.lazy.is_empty();
        if self.nodes[node].agent_of(life).is_some_and(is_due) {
            self.save(node);
        }
    }

    /// Carries out what may be carried out, until a save has to be waited for.
    pub(super) fn work_off(&mut self, node: usize) {
        let careless = self.cx.has(Bug::ActBeforeSave);
        loop {
            let Some(agent) = self.nodes[node].agent.as_mut() else { return };
            let is_save = match agent.lists.front().map(VecDeque::front) {
                _ if agent.saving.is_some() => return,
                None => return,
                Some(None) => {
                    agent.lists.pop_front();
                    continue;
                }
                Some(Some(first)) => matches!(first, Action::Save(_)),
            };
            if !self.nodes[node].spends_action() {
                return self.agent_crashes(node);
            }
            if is_save && !careless {
                return self.save(node);
            }
            let Some(agent) = self.nodes[node].agent.as_mut() else { return };
            match agent.lists.front_mut().and_then(VecDeque::pop_front) {
                Some(Action::Save(changes)) => self.begin_save(node, changes),
                Some(action) => self.carry_out(node, action),
                None => {}
            }
        }
    }

    /// Saves of all waiting lists go together: each is the newest word on its replicas.
    fn save(&mut self, node: usize) {
        let Some(agent) = self.nodes[node].agent.as_mut() else { return };
        agent.saving = Some(agent.lists.len());
        let saves = agent.lists.iter().filter_map(|list| match list.front() {
            Some(Action::Save(changes)) => Some(changes.clone()),
            Some(_) | None => None,
        });
        let mut changes = std::mem::take(&mut agent.lazy);
        changes.extend(saves.flatten());
        self.begin_save(node, changes);
    }

    pub(super) fn begin_save(&mut self, node: usize, changes: Vec<Change>) {
        let life = self.nodes[node].life;
        let now = self.cx.now;
        let disks_are_slow = self.servers.iter().any(|server| server.slow_until > now);
        let slow = disks_are_slow || self.cx.has(Bug::ActBeforeSave);
        self.nodes[node].ledger.begin(changes);
        let (low, high) = if slow { (50, 600) } else { (1, 20) };
        self.cx.soon(low, high, Happening::LedgerSaved { node, life });
    }

    pub(crate) fn ledger_saved(&mut self, node: usize, life: u32) {
        if self.nodes[node].agent_of(life).is_none() {
            return;
        }
        self.nodes[node].ledger.commit();
        let Some(agent) = self.nodes[node].agent_of(life) else { return };
        let saved = agent.saving.take().unwrap_or_default();
        for list in agent.lists.iter_mut().take(saved) {
            if matches!(list.front(), Some(Action::Save(_))) {
                list.pop_front();
            }
        }
        self.work_off(node);
        self.end_if_closed(node);
    }
}
