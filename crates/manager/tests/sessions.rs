//! Thousands of agents cost what they must: each is told once, nothing is written for what was known, and all that say at
//! about the same time that they are there are one question to the other servers and one answer each.

#![allow(clippy::expect_used)] // Clippy's exemption of tests does not reach the modules of an integration test.

mod many;

use many::Many;
use model::Millis;

const NODES: u64 = 3_000;
const REPLICAS_EACH: u32 = 2;

#[test]
fn all_agents_come_back_at_once() {
    let mut many = Many::new(NODES, REPLICAS_EACH);
    let back = many.all_open_sessions();
    assert_eq!(back.full, NODES, "each is told all of it, once");
    assert_eq!(back.replicas, NODES * u64::from(REPLICAS_EACH), "and has what it had");
    assert_eq!((back.written, back.increments), (0, 0), "nothing is new: {back:?}");
    assert_eq!(back.closed, NODES, "the sessions before are over");
    assert!(back.published <= NODES.div_ceil(1_024), "readers hear of batches, not of agents: {back:?}");
}

#[test]
fn all_agents_say_that_they_are_there() {
    let mut many = Many::new(NODES, REPLICAS_EACH);
    let beats = many.all_beat();
    assert_eq!((beats.heard, beats.written, beats.published), (0, 0, 0), "they wait for the tick: {beats:?}");
    let tick = many.tick();
    assert_eq!((tick.heard, tick.written, tick.published), (NODES, 0, 0), "{tick:?}");
    let heard = tick.last_heard.expect("they were heard");
    // Five hundred a second, and a thousand new sessions a second.
    assert_eq!((heard.next, heard.scatter), (Millis::from_secs(5), Millis::from_secs(3)));
    assert_eq!(many.tick().heard, 0, "each once");
}
