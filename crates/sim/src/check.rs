//! The checkers. Some look whenever something happens (in the files of those who let it happen), these keep what they
//! need to know themselves:
//!
//! - [`history`]: a second, simpler state machine beside the server's; nothing acknowledged is lost, nothing differs.
//! - [`promise`]: what a rollout stops can be spared.
//! - [`serving`]: nobody stays in a balancer who does not serve.
//! - [`rest`]: when there are no more faults, exactly what is desired runs, in bounded time.

pub(crate) mod history;
mod promise;
pub(crate) mod rest;
mod serving;
