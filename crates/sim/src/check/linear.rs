//! Is there an order in which all this could have happened, one after the other?
//!
//! Wing and Gong's search with Lowe's cache: take any operation that began before all that are left have ended, see what
//! it leaves of the state, and go on; what was already tried from the same state with the same operations done is not
//! tried again. Sources: Wing and Gong, "Testing and verifying concurrent objects" (1993); Lowe, "Testing for
//! linearizability" (2017).
//!
//! An operation whose answer never came may have happened at any time after it began, or not at all.
//!
//! Three things keep the search small without missing anything:
//! - What only looks, and saw just this, is taken at once: it never stands in the way of anything else.
//! - What was not answered and would change nothing is left out, for that is as if it had not happened.
//! - Of several that were not answered and are the same, the first is taken first.

use std::collections::BTreeSet;

/// Moments are counted: every beginning and every end has its own.
#[derive(Clone, Debug)]
pub struct Operation<A> {
    pub began: u64,
    /// None where nobody knows whether it happened.
    pub ended: Option<u64>,
    pub action: A,
}

/// One bit per operation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Done(Vec<u64>);

impl Done {
    fn has(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }

    fn with(&self, at: usize) -> Done {
        let mut next = self.clone();
        next.0[at / 64] |= 1 << (at % 64);
        next
    }
}

/// What operations do.
pub trait Acts<S>: PartialEq {
    /// Which states it can leave, none where it cannot happen in this one.
    fn after(&self, state: &S) -> Vec<S>;

    /// Whether it changes nothing wherever it can happen.
    fn only_looks(&self) -> bool;
}

/// Whether there is one.
pub fn is_linearizable<A: Acts<S>, S: Clone + Ord>(operations: &[Operation<A>], initial: S) -> bool {
    // The earliest to end last: what is put on the stack last is tried first.
    let mut order: Vec<usize> = (0..operations.len()).collect();
    order.sort_by_key(|&at| {
        std::cmp::Reverse((operations[at].ended.unwrap_or(u64::MAX), operations[at].began))
    });
    let nothing = Done(vec![0; operations.len().div_ceil(64)]);
    let mut tried = BTreeSet::from([(nothing.clone(), initial.clone())]);
    let mut stack = vec![(nothing, initial)];
    while let Some((done, state)) = stack.pop() {
        let Some(steps) = steps(operations, &order, &done, &state) else { return true };
        for reached in steps {
            if tried.insert(reached.clone()) {
                stack.push(reached);
            }
        }
    }
    false
}

/// What can come next; none where all that was answered is done.
fn steps<A: Acts<S>, S: Clone + Ord>(
    operations: &[Operation<A>],
    order: &[usize],
    done: &Done,
    state: &S,
) -> Option<Vec<(Done, S)>> {
    let left = || order.iter().copied().filter(|&at| !done.has(at));
    let horizon = left().filter_map(|at| operations[at].ended).min()?;
    let mut steps = Vec::new();
    for at in left().filter(|&at| operations[at].began < horizon) {
        let Operation { began, ended, action } = &operations[at];
        let states = action.after(state);
        if action.only_looks() && states == [state.clone()] {
            return Some(vec![(done.with(at), state.clone())]);
        }
        let is_first = |other: usize| {
            let Operation { began: before, ended, action: same } = &operations[other];
            !(ended.is_none() && before < began && same == action)
        };
        if ended.is_none() && !left().all(is_first) {
            continue;
        }
        let changes = states.into_iter().filter(|after| ended.is_some() || after != state);
        steps.extend(changes.map(|after| (done.with(at), after)));
    }
    Some(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Register {
        Write(u32),
        Read(u32),
    }
    use Register::{Read, Write};

    fn check(operations: &[(u64, Option<u64>, Register)]) -> bool {
        let operations: Vec<Operation<Register>> =
            operations.iter().map(|&(began, ended, action)| Operation { began, ended, action }).collect();
        is_linearizable(&operations, 0)
    }

    impl Acts<u32> for Register {
        fn after(&self, state: &u32) -> Vec<u32> {
            match *self {
                Write(value) => vec![value],
                Read(value) if *state == value => vec![*state],
                Read(_) => Vec::new(),
            }
        }

        fn only_looks(&self) -> bool {
            matches!(self, Read(_))
        }
    }

    #[test]
    fn what_changes_nothing_now_may_have_changed_something_later() {
        // The first write of 1 must come after the write of 2, though it would fit where it changes nothing.
        let history = [
            (1, Some(2), Write(1)),
            (3, Some(10), Write(1)),
            (4, Some(5), Write(2)),
            (6, Some(7), Read(2)),
            (8, Some(9), Read(1)),
        ];
        assert!(check(&history));
    }

    #[test]
    fn one_after_the_other_is_as_it_is() {
        assert!(check(&[(1, Some(2), Write(1)), (3, Some(4), Read(1))]));
        assert!(!check(&[(1, Some(2), Write(1)), (3, Some(4), Read(0))]));
        assert!(check(&[]));
    }

    #[test]
    fn what_overlaps_may_come_in_any_order() {
        assert!(check(&[(1, Some(4), Write(1)), (2, Some(3), Read(0))]));
        assert!(check(&[(1, Some(4), Write(1)), (2, Some(3), Read(1))]));
        // Once somebody has seen it, nobody may miss it.
        assert!(!check(&[(1, Some(9), Write(1)), (2, Some(3), Read(1)), (4, Some(5), Read(0))]));
    }

    #[test]
    fn what_nobody_answered_may_have_happened_or_not_but_not_twice() {
        assert!(check(&[(1, None, Write(1)), (2, Some(3), Read(0))]));
        assert!(check(&[(1, None, Write(1)), (2, Some(3), Read(1))]));
        assert!(check(&[(1, None, Write(1)), (2, Some(3), Read(0)), (4, Some(5), Read(1))]));
        let and_back =
            [(1, None, Write(1)), (2, Some(3), Read(1)), (4, Some(5), Write(2)), (6, Some(7), Read(1))];
        assert!(!check(&and_back));
        // Nor before it began.
        assert!(!check(&[(1, Some(2), Read(1)), (3, None, Write(1))]));
    }

    #[test]
    fn many_operations_that_overlap_are_decided_soon() {
        let writes = (0..10).map(|n| (n, None, Write(n as u32 + 1)));
        let reads = (0..10).map(|n| (100 + 2 * n, Some(101 + 2 * n), Read(n as u32 + 1)));
        let history: Vec<_> = writes.chain(reads).collect();
        assert!(check(&history));
    }
}
