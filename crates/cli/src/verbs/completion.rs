//! `wharf completion`: a script for the user's shell.

use clap::CommandFactory;

use crate::{
    args::Args,
    exit::{Code, Failure},
    output,
};

pub fn run(shell: clap_complete::Shell) -> Result<Code, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "wharf", &mut script);
    output::print_raw(&script)?;
    Ok(Code::Done)
}
