//! The network on the real kernel, with real packets. Needs root, `ip` of iproute2 and
//! `nft` of nftables (the network itself needs neither program).
//!
//! Each test plays on a stage of its own (`stage.rs`): network and mount namespaces in which it is the whole
//! host, with a neighbour outside. The real host stays untouched, and tests run in parallel.

#![allow(clippy::unwrap_used, reason = "all of this is tests, also what they share")]

mod stage;

mod change;
mod crash;
mod hosts;
mod inhabit;
mod reach;
mod standing;
mod walls;
