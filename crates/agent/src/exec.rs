//! Processes that are started in a running container: by probes and by users.

use oci_spec::runtime::Process;
use runtime::{Exec, ExecRequest, ExecStatus, ExecStdio};
use tokio::io::Interest;

use crate::{
    core::{ContainerId, Setback},
    host::{
        Host, chain,
        fault::{judge, judge_start, of_node},
        runtime_id,
    },
    readiness,
};

/// Runs a command without input and output; exit code 0 is a success. Dropped, it kills the command.
pub(crate) async fn check(host: &Host, id: &ContainerId, command: &[String]) -> Result<(), Setback> {
    let null = || std::fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    let nulls = (|| Ok::<_, std::io::Error>((null()?, null()?, null()?)))();
    let (stdin, stdout, stderr) = nulls.map_err(|error| of_node(&error))?;
    let stdio = ExecStdio::Fds { stdin: stdin.into(), stdout: stdout.into(), stderr: stderr.into() };
    let mut exec = start(host, id, command, stdio, None).await?;
    match ended(&mut exec).await.map_err(Setback::of_node)? {
        ExecStatus::Code(0) => Ok(()),
        ExecStatus::Code(code) => Err(Setback::of_replica(format!("exit code {code}"))),
        ExecStatus::Signal(signal) => Err(Setback::of_replica(format!("killed by signal {signal}"))),
    }
}

/// With the container's own environment, user and directory. `term` is what its terminal is, if it has one.
pub(crate) async fn start(
    host: &Host,
    id: &ContainerId,
    command: &[String],
    stdio: ExecStdio,
    term: Option<&str>,
) -> Result<Exec, Setback> {
    let mut process = container_process(host, id)?;
    process.set_args(Some(command.to_vec()));
    if let Some(term) = term {
        let mut env = process.env().clone().unwrap_or_default();
        if !env.iter().any(|entry| entry.starts_with("TERM=")) {
            env.push(format!("TERM={term}"));
        }
        process.set_env(Some(env));
    }
    let request = ExecRequest { id: runtime_id(id).map_err(|error| judge(&error))?, process, stdio };
    let runtime = host.runtime.clone();
    let started = tokio::task::spawn_blocking(move || runtime.exec(&request)).await;
    started.map_err(|error| Setback::of_node(chain(&error)))?.map_err(|error| judge_start(&error))
}

/// What cannot be told of a container from before is no fault of the container.
fn container_process(host: &Host, id: &ContainerId) -> Result<Process, Setback> {
    let unknown = || Setback::of_node(format!("what replica {} is made of is not known now", id.replica));
    let sandbox = host.sandbox(id.replica).ok_or_else(unknown)?;
    let startable = sandbox.container(&id.container).map_err(Setback::of_replica)?;
    startable.spec.process().clone().ok_or_else(unknown)
}

/// Waits for its end without holding up a thread.
pub(crate) async fn ended(exec: &mut Exec) -> Result<ExecStatus, String> {
    let words = |error: std::io::Error| format!("cannot wait for the command: {error}");
    let watched = readiness::of(exec, Interest::READABLE).map_err(words)?;
    let _ready = watched.readable().await.map_err(words)?;
    exec.status().map_err(words)
}
