//! `wharf completion`: a script for the user's shell.

use clap::CommandFactory;

use crate::{args::Args, exit::Code};

pub fn run(shell: clap_complete::Shell) -> Code {
    clap_complete::generate(shell, &mut Args::command(), "wharf", &mut std::io::stdout());
    Code::Done
}
