//! How things are shown: tables for people, JSON and YAML for programs, progress on a terminal.

pub mod convert;
pub mod logging;
pub mod progress;
pub mod table;
pub mod text;
