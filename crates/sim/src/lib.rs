//! A whole cluster in virtual time: the real cores on simulated machines, everything from one seed.
//!
//! One, three or five servers (the real `manager` on the real log of `server`), a few agents (the real core), their hosts,
//! the networks between them, and users. One thread, no clock, no randomness but the seed: the same seed is the same run, to the byte
//! of its trace. While it runs, checkers look for what must never be (see `check`); when something is wrong, the seed
//! says so for ever, and [`shrink`] finds a smaller plan that is still wrong.
//!
//! What is real: `manager`, `store`, `orchestrator`, `scheduler`, `consensus` with its formats, `proto`'s codec, the
//! server's log, the agent's core. What is simulated: disks, the network, hosts and their processes, users, time.
//! Sessions carry model types, not wire types; the agent's ledger is a map, not its database.
//!
//! Start reading at [`run`], then `world`, `plan` (what a seed means), `server`, `agents`, `host` and `check`.

mod agents;
mod behaviour;
mod bug;
mod check;
mod clocks;
mod codec;
mod disk;
mod host;
mod leases;
mod ledger;
mod members;
mod outcome;
mod plan;
mod queue;
mod random;
mod server;
mod shrink;
mod trace;
mod users;
mod wire;
mod world;

pub use bug::Bug;
/// Also for histories of real processes.
pub use check::linear;
pub use outcome::{Outcome, Violation};
pub use shrink::{Shrunk, shrink};

use crate::{plan::Plan, trace::BEGINNING, world::World};

/// Whether the lines of a trace are kept, which takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    Hash,
    Lines,
}

/// One run.
pub fn run(seed: u64, bug: Option<Bug>, detail: Detail) -> Outcome {
    run_plan(Plan::draw(seed), bug, detail)
}

fn run_plan(plan: Plan, bug: Option<Bug>, detail: Detail) -> Outcome {
    let (violation, ended_at, trace) = World::new(plan, bug, detail == Detail::Lines).run();
    let (hash, trace) = trace.finish();
    Outcome { violation, virtual_ms: ended_at.since(BEGINNING).0, hash, trace }
}
