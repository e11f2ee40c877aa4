//! A server in this process, real users over its socket, and agents that are only played.
//!
//! Start reading at `fixture`, then `apply`.

#![expect(clippy::unwrap_used, reason = "a test fails where it goes wrong")]

mod agent;
mod fixture;
mod founded;

mod access;
mod apply;
mod refusals;
mod sizes;
mod strangers;
mod watch;

mod cluster;
mod exec;
mod images;
mod logs;
mod peers;
mod sessions;

mod disk;
mod encryption;
mod rescue;
mod restarts;
mod socket;
