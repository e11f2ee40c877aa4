//! From a plan that fails to a smaller one that fails by the same rule: fewer faults, then fewer wishes.

use crate::{
    Detail, Outcome,
    bug::Bug,
    plan::{Ask, Fault, Plan},
    run_plan,
};
use model::Timestamp;

/// The smallest plan that was found, and what came of it.
#[derive(Debug)]
pub struct Shrunk {
    pub faults: Vec<String>,
    pub asks: Vec<String>,
    pub runs: u32,
    pub outcome: Outcome,
}

/// How many runs a search may take.
const RUNS: u32 = 200;

/// Leaves out what is not needed for the violation of this seed. `None` if the seed does not fail.
pub fn shrink(seed: u64, bug: Option<Bug>) -> Option<Shrunk> {
    let plan = Plan::draw(seed);
    let rule = run_plan(plan.clone(), bug, Detail::Hash).violation?.rule;
    let mut search = Search { plan, bug, rule, runs: 1 };
    search.without_parts::<(Timestamp, Fault)>(|plan| &mut plan.faults);
    search.without_parts::<(Timestamp, Ask)>(|plan| &mut plan.asks);
    search.without_parts::<(Timestamp, Fault)>(|plan| &mut plan.faults);
    let told = |at: &Timestamp| at.since(crate::trace::BEGINNING);
    let faults = search.plan.faults.iter().map(|(at, fault)| format!("{} {fault:?}", told(at)));
    let asks = search.plan.asks.iter().map(|(at, ask)| format!("{} {}", told(at), ask.describe()));
    let (faults, asks) = (faults.collect(), asks.collect());
    let outcome = run_plan(search.plan, bug, Detail::Lines);
    Some(Shrunk { faults, asks, runs: search.runs, outcome })
}

struct Search {
    plan: Plan,
    bug: Option<Bug>,
    rule: &'static str,
    runs: u32,
}

impl Search {
    /// Tries to leave out all, then halves, quarters and so on down to single ones.
    fn without_parts<T: Clone>(&mut self, of: impl Fn(&mut Plan) -> &mut Vec<T>) {
        let mut size = of(&mut self.plan).len();
        while size > 0 {
            let mut from = 0;
            while from < of(&mut self.plan).len() && self.runs < RUNS {
                let mut smaller = self.plan.clone();
                let parts = of(&mut smaller);
                parts.drain(from..(from + size).min(parts.len()));
                if self.still_fails(smaller.clone()) {
                    self.plan = smaller;
                } else {
                    from += size;
                }
            }
            size /= 2;
        }
    }

    fn still_fails(&mut self, plan: Plan) -> bool {
        self.runs += 1;
        run_plan(plan, self.bug, Detail::Hash).violation.is_some_and(|found| found.rule == self.rule)
    }
}
