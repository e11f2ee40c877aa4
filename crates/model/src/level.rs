//! Which of wharf's builds understand each other: one small number that grows with what the log, the state and the orders
//! to nodes can say.
//!
//! - A build knows all levels up to its own, [`Level::NEWEST`]. Servers say theirs in every exchange with another server,
//!   agents when they open a session. Builds from before there were levels say none, which is level 1.
//! - The **level in use** is part of the replicated state, and never falls. The leader raises it by itself once every
//!   member was heard at a higher one. Until then nothing is written that an older member would not understand; from then
//!   on no older server is taken in.
//!
//! So an upgrade in any order works, and goes back as easily, until the last server has been upgraded.
//!
//! Whoever adds a command, a step or a field that an older server would refuse or overlook adds a line to
//! [`Level::BROUGHT`], and says in `store::Command::needs` that the command needs that level. What nodes have to
//! understand, [`crate::ReplicaTemplate::needs`] says.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(pub u32);

impl Level {
    /// What each level brought, from level 1 on.
    pub const BROUGHT: [&str; 2] = ["all that was there before levels", "the level in use, and its raising"];
    /// Of a build that says none.
    pub const FIRST: Level = Level(1);
    /// Of this build.
    pub const NEWEST: Level = Level(Level::BROUGHT.len() as u32);

    /// As it is said in a message, where 0 is a field that the sender did not know.
    pub fn said(number: u32) -> Level {
        Level(number).max(Level::FIRST)
    }
}

impl Default for Level {
    fn default() -> Level {
        Level::FIRST
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "level {}", self.0)
    }
}
