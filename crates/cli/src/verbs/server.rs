//! `wharf server`: one server of the control plane, until it is told to stop.

use std::process::ExitCode;

use model::Millis;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    args,
    exit::{Code, Failure},
    membership::Membership,
    memory,
};

/// Renewing takes a moment, and clocks differ.
const SHORTEST_LIFE: Millis = Millis(6_000);

pub fn run(args: args::Server) -> Result<ExitCode, Failure> {
    crate::output::logging::start();
    memory::take_small_pages();
    if args.supervised {
        end_with_parent()?;
    }
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers()).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new("the server cannot start").caused_by(error))?;
    let unlock = args.data_keys.unlock()?;
    let lifetime = Millis(args.certificate_lifetime.as_millis() as u64);
    if lifetime < SHORTEST_LIFE {
        return Err(Failure::new(format!("--certificate-lifetime {lifetime} is less than {SHORTEST_LIFE}")));
    }
    let remote = Membership::read(&args.data)?.map(|known| known.remote(&args.data, lifetime)).transpose()?;
    let config = server::Config {
        data_dir: args.data,
        socket: args.listen,
        unlock,
        audit_log: args.audit_log,
        remote,
    };
    runtime.spawn(memory::forget_start());
    let result = runtime.block_on(async { server::run(config, stop_signal()).await });
    runtime.shutdown_background();
    result.map_err(|error| Failure::new("the server ended").caused_by(error))?;
    Ok(Code::Done.into())
}

/// How many threads serve connections. One processor is left to the thread that decides and the one that writes: more
/// threads than that would only wake each other.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| (processors.get() - 1).clamp(1, 4))
}

/// An agent takes one, and the usual limit of 1,024 is meant for programs that use select(2).
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays where it is");
    }
}

/// Completes at SIGTERM or SIGINT.
pub async fn stop_signal() {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        tracing::error!("signals cannot be received; only SIGKILL will end this process");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Asks the kernel for SIGTERM when the parent dies, so that nothing of `wharf dev` outlives it.
pub fn end_with_parent() -> Result<(), Failure> {
    use rustix::process::{Signal, set_parent_process_death_signal};
    let failed =
        |error: rustix::io::Errno| Failure::new("this process cannot be tied to its parent").caused_by(error);
    set_parent_process_death_signal(Some(Signal::TERM)).map_err(failed)
}
