//! The tests of this crate from the outside. `UPDATE_GOLDENS=1` writes the expected outputs anew.

#![allow(clippy::unwrap_used)] // What a test unwraps is what it tests.

mod golden;

mod examples;
mod shown;

mod api;

mod generated;
mod properties;

mod schema;
