//! `wharf dev`: a whole cluster on this machine, until Ctrl-C.
//!
//! Servers and agents are processes of their own, as in any cluster; this one starts them, starts them again should they
//! die, applies the manifests, and at the end stops all that it started. What cannot start ends it; what cannot be
//! applied is told, and the cluster runs on to be looked at. One server and one agent live on this machine itself;
//! `--nodes` makes [`hosts`] in it. Start reading at [`run`].

mod cluster;
mod daemon;
mod ground;
mod hosts;
mod place;

use std::{net::Ipv4Addr, time::Duration};

use manifest::Manifest;
use owo_colors::OwoColorize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::{cluster::Cluster, hosts::Hosts};
use crate::{
    answer::ServiceView,
    args::{self, Global},
    ask::{self, Question},
    connect::Client,
    exit::{Code, Failure},
    manifests,
    output::{remark, say},
    ports,
    verbs::apply,
    wait::{self, Goal},
};

/// How long the services may take until they are healthy; afterwards the cluster runs on all the same.
const HEALTHY: Duration = Duration::from_secs(900);

pub async fn run(global: &Global, args: args::Dev) -> Result<Code, Failure> {
    ground::check_may_run(global).await?;
    // Read before anything is started: a manifest with errors costs nothing.
    let manifests = if args.files.is_empty() { Vec::new() } else { manifests::read(&args.files)? };
    if args.nodes == 1 {
        ground::check_ports(&manifests)?;
    }
    let _lock = ground::take_lock().await?;
    if args.fresh {
        ground::forget(&args.data)?;
    }
    ground::prepare(&args.data)?;
    let mut interrupts = Interrupts::listen()?;
    let hosts = make_hosts(global, &args)?;
    let mut cluster = Cluster::default();
    let result = tokio::select! {
        result = bring_up(&mut cluster, hosts.as_ref(), global, &args, &manifests) => match result {
            // What failed is told, and may be looked at: the cluster runs on until it is stopped.
            Ok(code) => {
                interrupts.next().await;
                Ok(code)
            }
            Err(failure) => Err(failure),
        },
        () = interrupts.next() => Ok(Code::Interrupted),
    };
    match &result {
        Ok(_) => say(format_args!("\nstopping; what is desired is kept in {}", args.data.display())),
        // What went wrong comes last, where it is seen.
        Err(_) => say("stopping what was started"),
    }
    match cluster.stop(&mut interrupts).await {
        cluster::Stopped::All => hosts.map_or(Ok(()), Hosts::remove).and(result),
        cluster::Stopped::LeftToAgent => Ok(Code::Interrupted),
    }
}

/// None where the cluster is this machine alone. What a run left that was killed is removed or taken over.
fn make_hosts(global: &Global, args: &args::Dev) -> Result<Option<Hosts>, Failure> {
    match args.nodes {
        1 => hosts::remove_earlier().map(|()| None),
        count => Hosts::open(global, &args.data, count).map(Some),
    }
}

/// What asks for the end: Ctrl-C, SIGTERM, and the terminal that goes away.
pub struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Interrupts {
    fn listen() -> Result<Interrupts, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::new("signals cannot be received").caused_by(error));
        Ok(Interrupts {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// From processes that were just started to services that are healthy; the code says how the rollouts ended.
async fn bring_up(
    cluster: &mut Cluster,
    hosts: Option<&Hosts>,
    global: &Global,
    args: &args::Dev,
    manifests: &[Manifest],
) -> Result<Code, Failure> {
    let mut client = match hosts {
        Some(hosts) => hosts.form(cluster, global).await?,
        None => cluster.start_here(global, &args.data).await?,
    };
    match hosts {
        Some(hosts) => {
            say(format_args!("{} {} hosts run in this machine", "✓".green(), args.nodes));
            hosts.lines().into_iter().for_each(say);
        }
        None => say(format_args!("{} a server and an agent run on this machine", "✓".green())),
    }
    let code = match make_healthy(&mut client, manifests).await {
        Ok(code) => code,
        Err(failure) => {
            failure.report();
            remark("the cluster runs on: put it right and say `wharf apply` in another terminal\n");
            failure.exit_code()
        }
    };
    let services = ask::status(&mut client, Question::all()).await?.services;
    addresses(&services, hosts.map(|hosts| hosts.first().address)).into_iter().for_each(say);
    if hosts.is_none() {
        apply::warn_of(&ports::taken(services.iter().map(|found| (&found.service.key, &found.service.spec))));
    }
    say(hint(global, args).dimmed());
    say("Ctrl-C stops everything");
    Ok(code)
}

/// Applies the manifests, and waits until what they declare is healthy, and what was desired before too.
async fn make_healthy(client: &mut Client, manifests: &[Manifest]) -> Result<Code, Failure> {
    let mut goals = if manifests.is_empty() { Vec::new() } else { apply::apply(client, manifests).await? };
    let known = ask::status(client, Question::all()).await?.services;
    for ServiceView { service, .. } in known {
        let is_applied = goals.iter().any(|goal| *goal.service() == service.key);
        // What failed before has not got better by a restart.
        let may_succeed = matches!(wait::end_of(&service), None | Some((Code::Done, _)));
        if !is_applied && may_succeed && service.deleting_since.is_none() {
            let (generation, revision) = (service.rollout.generation, service.rollout.to);
            goals.push(Goal::Runs { service: service.key, generation, revision });
        }
    }
    wait::follow(client, goals, HEALTHY).await
}

/// Where published ports are reached from this machine: at a host in it, or at itself.
fn addresses(services: &[ServiceView], host: Option<Ipv4Addr>) -> Vec<String> {
    let at = host.map_or("localhost".to_owned(), |host| host.to_string());
    let mut lines = Vec::new();
    for ServiceView { service, .. } in services {
        for port in &service.spec.template.ports {
            let Some(publish) = port.publish else { continue };
            let is_http = port.protocol == model::Protocol::Tcp && port.name.as_str().starts_with("http");
            let address = match is_http {
                true => format!("http://{at}:{publish}"),
                false => format!("{at}:{publish} ({}, {})", port.name, port.protocol.as_str()),
            };
            lines.push(format!("  {} {address}", service.key.to_string().bold()));
        }
    }
    lines
}

fn hint(global: &Global, args: &args::Dev) -> String {
    let data = args.data.display();
    let usual = std::path::Path::new("/run/wharf/wharf.sock");
    let socket = match global.socket == usual {
        true => String::new(),
        false => format!(" after `export WHARF_SOCKET={}`", global.socket.display()),
    };
    format!("state and logs are in {data}\nin another terminal{socket}: wharf get services, wharf logs NAME")
}
