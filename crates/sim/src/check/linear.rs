//! Is there an order in which all this could have happened, one after the other?
//!
//! Wing and Gong's search with Lowe's cache: take any operation that began before all that are left have ended, see what
//! it leaves of the state, and go on; what was already tried from the same state with the same operations done is not
//! tried again. Sources: Wing and Gong, "Testing and verifying concurrent objects" (1993); Lowe, "Testing for
//! linearizability" (2017).
//!
//! One that was answered, can happen now and changes nothing, as a read that saw just this, is taken at once and nothing
//! else is tried: whatever order there is has one with it here, since its answer says that it changed nothing. One that
//! was not answered and would change nothing now is left for later.
//!
//! An operation whose answer never came may have happened at any time after it began, or not at all.

use std::collections::BTreeSet;

/// Moments are counted: every beginning and every end has its own.
#[derive(Clone, Debug)]
pub(crate) struct Operation<A> {
    pub(crate) began: u64,
    /// None where nobody knows whether it happened.
    pub(crate) ended: Option<u64>,
    pub(crate) action: A,
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

/// `next` says which states an action can leave, none where it cannot happen in a state. One that was answered changes
/// something in every state in which it can happen, or in none.
pub(crate) fn is_linearizable<A, S: Clone + Ord>(
    operations: &[Operation<A>],
    initial: S,
    next: impl Fn(&S, &A) -> Vec<S>,
) -> bool {
    // The earliest to end last: what is put on the stack last is tried first.
    let mut order: Vec<usize> = (0..operations.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(operations[at].ended.unwrap_or(u64::MAX)));
    let nothing = Done(vec![0; operations.len().div_ceil(64)]);
    let mut tried = BTreeSet::from([(nothing.clone(), initial.clone())]);
    let mut stack = vec![(nothing, initial)];
    while let Some((done, state)) = stack.pop() {
        let left = || order.iter().copied().filter(|&at| !done.has(at));
        let Some(horizon) = left().filter_map(|at| operations[at].ended).min() else { return true };
        let mut reached = Vec::new();
        for at in left().filter(|&at| operations[at].began < horizon) {
            let after = next(&state, &operations[at].action);
            match (after == [state.clone()], operations[at].ended) {
                (true, Some(_)) => {
                    reached = vec![(done.with(at), state.clone())];
                    break;
                }
                (true, None) => continue,
                (false, _) => {}
            }
            reached.extend(after.into_iter().map(|after| (done.with(at), after)));
        }
        for one in reached {
            if tried.insert(one.clone()) {
                stack.push(one);
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Register {
        Write(u32),
        Read(u32),
    }
    use Register::{Read, Write};

    fn check(operations: &[(u64, Option<u64>, Register)]) -> bool {
        let operations: Vec<Operation<Register>> =
            operations.iter().map(|&(began, ended, action)| Operation { began, ended, action }).collect();
        is_linearizable(&operations, 0, |state, action| match *action {
            Write(value) => vec![value],
            Read(value) => {
                if *state == value {
                    vec![*state]
                } else {
                    Vec::new()
                }
            }
        })
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

    #[test]
    fn reads_that_saw_the_same_cost_nothing() {
        let reads = |n, saw| (n, Some(1_000 + n), Read(saw));
        let mut history = vec![(0, Some(2_000), Write(1)), (1, Some(2_001), Write(2))];
        history.extend((2..62).map(|n| reads(n, (n % 3) as u32)));
        assert!(check(&history));
        history.extend((3_000..3_002).map(|n| reads(n, (n - 3_000) as u32)));
        assert!(!check(&history));
    }
}
