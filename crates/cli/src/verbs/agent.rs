//! `wharf agent`: the agent of this host, until it is told to stop.

use std::process::ExitCode;

use crate::{args, exit::Failure};

pub fn run(args: args::Agent) -> Result<ExitCode, Failure> {
    let _ = (args, crate::demo_image::import);
    Err(Failure::new("later"))
}
