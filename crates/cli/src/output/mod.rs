//! How things are shown: tables for people, JSON and YAML for programs, progress on a terminal.
//!
//! What is shown is made as a `String` by pure functions, with colours; writing takes the colours out again where
//! nobody wants them: in a pipe, with `NO_COLOR`, on a dumb terminal, as `CLICOLOR` and `CLICOLOR_FORCE` say.
//! Start reading at [`print`] and [`say`], which are the only ways out.

pub mod caveats;
pub mod clock;
pub mod describe;
pub mod json;
pub mod live;
pub mod logging;
pub mod plan;
pub mod progress;
pub mod table;
pub mod tables;
pub mod text;
pub mod words;

use std::io::{ErrorKind, Write};

use anstream::AutoStream;

use crate::exit::Failure;

/// Shows what the user asked to see. When nobody reads it any more, the command is over.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// The same for bytes that are not ours to change.
pub fn print_raw(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    written(out.write_all(bytes).and_then(|()| out.flush()))
}

fn written(result: std::io::Result<()>) -> Result<(), Failure> {
    result.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::reader_gone(),
        _ => Failure::new("the output cannot be written").caused_by(error),
    })
}

/// Tells what is going on, on a line of its own. That nobody reads it ends nothing: a deploy goes on, and its exit code
/// is what counts.
pub fn say(line: impl std::fmt::Display) {
    let mut out = anstream::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// The same beside the output, on standard error; with its own line breaks.
pub fn remark(text: &str) {
    let mut out = anstream::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Whether standard output shows colours.
pub fn shows_colours() -> bool {
    AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never
}
