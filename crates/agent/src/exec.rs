//! Processes that are started in a running container: by probes and by users.

use oci_spec::runtime::Process;
use runtime::{Exec, ExecRequest, ExecStatus, ExecStdio};
use tokio::io::Interest;

use crate::{
    core::ContainerId,
    host::{Host, chain, runtime_id},
    readiness,
};

/// Runs a command without input and output; exit code 0 is a success. Dropped, it kills the command.
pub(crate) async fn check(host: &Host, id: &ContainerId, command: &[String]) -> Result<(), String> {
    let null = || std::fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    let nulls = (|| Ok::<_, std::io::Error>((null()?, null()?, null()?)))();
    let (stdin, stdout, stderr) = nulls.map_err(|error| format!("/dev/null: {error}"))?;
    let stdio = ExecStdio::Fds { stdin: stdin.into(), stdout: stdout.into(), stderr: stderr.into() };
    let mut exec = start(host, id, command, stdio, None).await?;
    match ended(&mut exec).await? {
        ExecStatus::Code(0) => Ok(()),
        ExecStatus::Code(code) => Err(format!("exit code {code}")),
        ExecStatus::Signal(signal) => Err(format!("killed by signal {signal}")),
    }
}

/// With the container's own environment, user and directory. `term` is what its terminal is, if it has one.
pub(crate) async fn start(
    host: &Host,
    id: &ContainerId,
    command: &[String],
    stdio: ExecStdio,
    term: Option<&str>,
) -> Result<Exec, String> {
    let mut process = container_process(host, id)?;
    process.set_args(Some(command.to_vec()));
    if let Some(term) = term {
        let mut env = process.env().clone().unwrap_or_default();
        if !env.iter().any(|entry| entry.starts_with("TERM=")) {
            env.push(format!("TERM={term}"));
        }
        process.set_env(Some(env));
    }
    let request = ExecRequest { id: runtime_id(id).map_err(|error| chain(&error))?, process, stdio };
    let runtime = host.runtime.clone();
    let started = tokio::task::spawn_blocking(move || runtime.exec(&request)).await;
    started.map_err(|error| chain(&error))?.map_err(|error| chain(&error))
}

fn container_process(host: &Host, id: &ContainerId) -> Result<Process, String> {
    let sandbox = host.sandbox(id.replica);
    let startable = sandbox.as_ref().and_then(|sandbox| sandbox.containers.get(&id.container));
    let process = startable.and_then(|startable| startable.spec.process().clone());
    process.ok_or_else(|| format!("container {} of replica {} is not running", id.container, id.replica))
}

/// Waits for its end without holding up a thread.
pub(crate) async fn ended(exec: &mut Exec) -> Result<ExecStatus, String> {
    let words = |error: std::io::Error| format!("cannot wait for the command: {error}");
    let watched = readiness::of(exec, Interest::READABLE).map_err(words)?;
    let _ready = watched.readable().await.map_err(words)?;
    exec.status().map_err(words)
}
