//! The checkers. Some look whenever something happens (in the files of those who let it happen), these keep what they
//! need to know themselves:
//!
//! - [`logs`]: every server's log, as handed to its disk and as durable; logs that agree on an entry agree on all before.
//! - [`agreement`]: one leader in a term, what is committed stays, states and snapshots are the same everywhere.
//! - [`history`]: what users asked and were told; nothing acknowledged is lost, and all answers fit into one story per
//!   service ([`linear`] finds it, [`service`] says what a story is).
//! - [`promise`]: what a rollout stops can be spared.
//! - [`spans`]: what should last a while lasts so long, whatever the hosts' clocks show.
//! - [`losses`]: nodes are given up, and what runs there is replaced, no earlier than they should be.
//! - [`serving`]: nobody stays in a balancer who does not serve.
//! - [`rest`]: when there are no more faults, exactly what is desired runs, in bounded time.

pub(crate) mod agreement;
pub(crate) mod history;
pub mod linear;
pub(crate) mod logs;
pub(crate) mod losses;
mod promise;
pub(crate) mod rest;
pub(crate) mod service;
mod serving;
pub(crate) mod spans;
