//! `wharf`: the command line, and the daemons' entry points.
//!
//! One file per verb in `verbs`; `args` is the grammar, `connect` the way to a server, `contexts` which cluster that is of,
//! `reach` several addresses, `patience` what is waited out, `ask` and `answer` what is asked
//! of it and what comes back, `manifests` and `membership` the way to files, `wait` to the end of a rollout, `output` how things are shown,
//! `exit` how a command ends, `memory` what a daemon keeps of it. Start reading at [`main`], then at the verb that you are after.

mod answer;
mod args;
mod ask;
mod connect;
mod contexts;
mod demo_image;
mod exit;
mod hello;
mod key_files;
mod lock;
mod manifests;
mod membership;
mod memory;
mod output;
mod patience;
mod ports;
mod reach;
#[cfg(test)]
mod shown;
mod target;
mod verbs;
mod wait;
mod watching;

use std::process::ExitCode;

use mimalloc::MiMalloc;

use crate::{args::Verb, exit::Failure};

/// A server allocates a request on one thread and frees it on another, for which the C library's allocator pays with a
/// quarter of its writes per second (`bench writes`); it costs an idle agent about a megabyte.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // The program of the demo image is no verb of a user's.
    if std::env::args_os().nth(1).is_some_and(|verb| verb == "hello") {
        return hello::run();
    }
    let args = match args::Args::read() {
        Ok(args) => args,
        Err(error) => return exit::usage(&error),
    };
    let ended = match args.verb {
        // These set up their process before any thread exists.
        Verb::Agent(agent) => verbs::agent::run(agent),
        Verb::Server(server) => verbs::server::run(server),
        verb => run(&args.global, verb),
    };
    match ended {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn run(global: &args::Global, verb: Verb) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new("the program cannot start").caused_by(error))?;
    let result = runtime.block_on(verbs::run(global, verb));
    // A read of standard input that nobody will answer must not hold up the end.
    runtime.shutdown_background();
    result
}
