//! The real manager, alone or as one of three, with disks, a network and agents that are only played.
//!
//! `scripts` reads dialogues, `crashes` draws them. Start reading at `cluster`.

#![expect(clippy::unwrap_used, reason = "a test fails where it goes wrong")]

mod agent;
mod checks;
mod cluster;
mod codec;
mod crashes;
mod forged;
mod member;
mod print;
mod script;
mod scripts;
mod spec;
