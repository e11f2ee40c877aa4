//! `wharf dev`: a whole cluster on this machine, until Ctrl-C.
//!
//! The server and the agent are processes of their own, as in any cluster; this one starts them, starts them again
//! should they die, applies the manifests, and at the end stops all that it started.

mod daemon;

use std::{path::Path, process::Stdio, time::Duration};

use anstream::println;
use owo_colors::OwoColorize;
use proto::v1;
use tokio::signal::unix::{SignalKind, signal};

use self::daemon::Daemon;
use crate::{
    args::{self, Global, Waiting},
    connect::{Client, answers, connect},
    deploy,
    exit::{Code, Failure},
    verbs::apply,
};

/// Starting takes a moment; longer than this and something is wrong that its log tells.
const START: Duration = Duration::from_secs(60);

pub async fn run(global: &Global, args: args::Dev) -> Result<Code, Failure> {
    check_may_run(global).await?;
    // Read before anything is started: a manifest with errors costs nothing.
    let manifests = if args.files.is_empty() { Vec::new() } else { deploy::read_manifests(&args.files)? };
    if args.fresh {
        forget(&args.data)?;
    }
    std::fs::create_dir_all(&args.data)
        .map_err(|error| Failure::new(format!("cannot create {}", args.data.display())).caused_by(error))?;
    let mut interrupts = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut cluster = Cluster::start(global, &args)?;
    let result = tokio::select! {
        result = cluster.bring_up(global, &args, &manifests) => match result {
            // What failed is told, and may be looked at: the cluster runs on until it is stopped.
            Ok(code) => {
                tokio::select! {
                    _ = interrupts.recv() => {}
                    _ = terminate.recv() => {}
                }
                Ok(code)
            }
            Err(failure) => Err(failure),
        },
        _ = interrupts.recv() => Ok(Code::Done),
        _ = terminate.recv() => Ok(Code::Done),
    };
    println!("\nstopping what was started (desired state is kept in {})", args.data.display());
    cluster.stop(&mut interrupts).await;
    result
}

fn no_signals(error: std::io::Error) -> Failure {
    Failure::new("signals cannot be received").caused_by(error)
}

async fn check_may_run(global: &Global) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::new("containers, networks and mounts need root").help("use sudo"));
    }
    if answers(&global.socket).await {
        let message = format!("a cluster answers at {} already", global.socket.display());
        return Err(Failure::new(message).help("stop it first, or give --socket and --data of another one"));
    }
    Ok(())
}

/// Only what earlier runs made is removed, never the folder that the user named.
fn forget(data: &Path) -> Result<(), Failure> {
    for part in ["server", "agent"] {
        match std::fs::remove_dir_all(data.join(part)) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                let message = format!("cannot remove {}", data.join(part).display());
                return Err(Failure::new(message).caused_by(error));
            }
        }
    }
    Ok(())
}

struct Cluster {
    server: Daemon,
    agent: Daemon,
}

impl Cluster {
    fn start(global: &Global, args: &args::Dev) -> Result<Cluster, Failure> {
        let socket = global.socket.as_os_str();
        let run = global.socket.parent().unwrap_or(Path::new("/run/wharf")).join("agent");
        let (server_data, agent_data) = (args.data.join("server"), args.data.join("agent"));
        let server_args = [
            "server".as_ref(),
            "--supervised".as_ref(),
            "--data".as_ref(),
            server_data.as_os_str(),
            "--listen".as_ref(),
            socket,
        ];
        let agent_args = [
            "agent".as_ref(),
            "--supervised".as_ref(),
            "--stop-on-exit".as_ref(),
            "--data".as_ref(),
            agent_data.as_os_str(),
            "--run".as_ref(),
            run.as_os_str(),
            "--server".as_ref(),
            socket,
        ];
        Ok(Cluster {
            server: Daemon::start("server", &server_args, &args.data.join("server.log"))?,
            agent: Daemon::start("agent", &agent_args, &args.data.join("agent.log"))?,
        })
    }

    async fn bring_up(
        &mut self,
        global: &Global,
        args: &args::Dev,
        manifests: &[manifest::Manifest],
    ) -> Result<Code, Failure> {
        let up = tokio::time::timeout(START, wait_for_node(global)).await;
        let mut client = up.map_err(|_| self.too_slow())??;
        println!("{} a server and an agent run on this machine", "✓".green());
        let mut code = Code::Done;
        if !manifests.is_empty() {
            let waiting = Waiting { wait: true, timeout: Duration::from_secs(900) };
            code = apply::apply(&mut client, manifests, false, &waiting).await?;
        }
        print_addresses(&mut client).await?;
        println!("state in {}, socket {}", args.data.display(), global.socket.display());
        println!("{}", "another terminal can say: wharf get services, wharf logs, wharf describe …".dimmed());
        println!("Ctrl-C stops everything");
        Ok(code)
    }

    fn too_slow(&self) -> Failure {
        let logs = format!("see {} and {}", self.server.log().display(), self.agent.log().display());
        Failure::new("the cluster did not come up in time").help(logs)
    }

    /// The agent first: it stops the containers, and says so to a server that still listens.
    async fn stop(self, interrupts: &mut tokio::signal::unix::Signal) {
        let stop = async {
            self.agent.stop().await;
            self.server.stop().await;
        };
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                _ = interrupts.recv() => println!("still stopping; containers get their grace period"),
            }
        }
    }
}

/// Waits until the server answers and the agent has a session.
async fn wait_for_node(global: &Global) -> Result<Client, Failure> {
    loop {
        if let Ok(mut client) = connect(&global.socket).await {
            let request = v1::StatusRequest { nodes: true, ..v1::StatusRequest::default() };
            let ready = |node: &v1::NodeStatus| node.readiness() == v1::node_status::Readiness::Ready;
            if let Ok(status) = client.status(request).await
                && status.into_inner().nodes.iter().any(ready)
            {
                return Ok(client);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn print_addresses(client: &mut Client) -> Result<(), Failure> {
    let services = Some(v1::status_request::Services::All(v1::status_request::All {}));
    let status =
        client.status(v1::StatusRequest { services, ..v1::StatusRequest::default() }).await?.into_inner();
    for found in &status.services {
        let Some(service) = &found.service else { continue };
        let name = service.key.as_ref().map(deploy::name_of).unwrap_or_default();
        let ports = service.spec.iter().flat_map(|spec| &spec.template).flat_map(|template| &template.ports);
        for port in ports {
            if let Some(publish) = port.publish {
                println!("  {} http://127.0.0.1:{publish} ({})", name.bold(), port.name);
            }
        }
    }
    Ok(())
}

/// Where a daemon's output goes: appended to its log.
fn log_file(path: &Path) -> Result<Stdio, Failure> {
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    file.map(Stdio::from)
        .map_err(|error| Failure::new(format!("cannot write {}", path.display())).caused_by(error))
}
