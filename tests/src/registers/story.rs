//! What was asked of registers, what was told, and whether it fits together.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use sim::linear::{Acts, Operation, is_linearizable};

use super::Summary;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Write(u64),
    Read(u64),
}

impl Acts<u64> for Access {
    fn after(&self, state: &u64) -> Vec<u64> {
        match *self {
            Access::Write(value) => vec![value],
            Access::Read(value) if *state == value => vec![value],
            Access::Read(_) => Vec::new(),
        }
    }

    fn only_looks(&self) -> bool {
        matches!(self, Access::Read(_))
    }
}

#[derive(Debug, Default)]
pub(super) struct Story {
    /// Counts every beginning and every end. A write is known by the moment of its beginning: that is what it writes.
    moment: u64,
    registers: BTreeMap<usize, Register>,
    /// When the acknowledged writes began, and when that was told.
    acknowledged: Vec<(Instant, Instant)>,
    longest: Duration,
}

#[derive(Debug, Default)]
struct Register {
    /// By their values; with their ends, where they are known to have happened.
    writes: BTreeMap<u64, Option<u64>>,
    /// Beginning, end and value.
    reads: Vec<(u64, u64, u64)>,
}

impl Story {
    fn register(&mut self, number: usize) -> &mut Register {
        self.registers.entry(number).or_default()
    }

    pub(super) fn moment(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    /// What is to be written.
    pub(super) fn begins_to_write(&mut self, register: usize) -> u64 {
        let value = self.moment();
        self.register(register).writes.insert(value, None);
        value
    }

    pub(super) fn written(&mut self, register: usize, value: u64, since: Instant) {
        let now = self.moment();
        self.register(register).writes.insert(value, Some(now));
        self.acknowledged.push((since, Instant::now()));
    }

    pub(super) fn never_written(&mut self, register: usize, value: u64) {
        self.register(register).writes.remove(&value);
    }

    pub(super) fn read(&mut self, register: usize, began: u64, value: u64) {
        let now = self.moment();
        self.register(register).reads.push((began, now, value));
    }

    pub(super) fn requested(&mut self, took: Duration) {
        self.longest = self.longest.max(took);
    }

    /// From then until the first end of a write that began after it.
    pub(super) fn written_after(&self, since: Instant) -> Option<Duration> {
        let later = self.acknowledged.iter().filter(|(began, _)| *began > since);
        later.map(|(_, told)| told.duration_since(since)).min()
    }

    pub(super) fn summary(&self) -> Summary {
        let reads = self.registers.values().map(|register| register.reads.len()).sum();
        Summary { writes: self.acknowledged.len(), reads, longest: self.longest }
    }

    pub(super) fn check(&self) {
        for (&number, register) in &self.registers {
            register.check(number);
        }
    }
}

impl Register {
    fn check(&self, number: usize) {
        let operations = self.operations();
        if !is_linearizable(&operations, 0) {
            let mut lines: Vec<_> = operations.iter().collect();
            lines.sort_by_key(|operation| operation.began);
            let lines: Vec<String> = lines.iter().map(|operation| format!("{operation:?}")).collect();
            panic!("register {number} tells no story that could be true:\n{}", lines.join("\n"));
        }
    }

    /// Of the writes without an answer those count whose value somebody read, and they had happened by then. The others
    /// may as well not have happened: nobody saw them.
    fn operations(&self) -> Vec<Operation<Access>> {
        let first_seen = |value: u64| {
            self.reads.iter().filter(|(.., read)| *read == value).map(|(_, ended, _)| *ended).min()
        };
        let writes = self.writes.iter().filter_map(|(&value, ended)| {
            let ended = ended.or_else(|| first_seen(value))?;
            Some(Operation { began: value, ended: Some(ended), action: Access::Write(value) })
        });
        let reads = self.reads.iter().map(|&(began, ended, value)| Operation {
            began,
            ended: Some(ended),
            action: Access::Read(value),
        });
        writes.chain(reads).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(writes: &[(u64, Option<u64>)], reads: &[(u64, u64, u64)]) -> bool {
        let register = Register { writes: writes.iter().copied().collect(), reads: reads.to_vec() };
        is_linearizable(&register.operations(), 0)
    }

    #[test]
    fn what_was_acknowledged_must_be_seen_and_what_was_not_may_be() {
        assert!(check(&[(1, Some(2))], &[(3, 4, 1)]));
        assert!(!check(&[(1, Some(2))], &[(3, 4, 0)]), "a lost write");
        assert!(!check(&[(1, Some(2)), (3, Some(4))], &[(5, 6, 1)]), "a stale read");
        assert!(check(&[(1, None)], &[(3, 4, 0)]) && check(&[(1, None)], &[(3, 4, 1)]));
        assert!(!check(&[(1, None)], &[(3, 4, 1), (5, 6, 0)]), "seen and lost");
        assert!(!check(&[], &[(3, 4, 1)]), "never written");
    }
}
