//! `wharf get`: lists.

use proto::v1;
use serde_json::{Value as Json, json};

use crate::{
    args::{self, Global, Kind, Output},
    connect::Client,
    deploy::name_of,
    exit::{Code, Failure},
    output::{convert, table, text},
    target::Target,
};

pub async fn run(client: &mut Client, global: &Global, args: args::Get) -> Result<Code, Failure> {
    let request = request(global, &args)?;
    if !args.watch {
        let status = client.status(request).await?.into_inner();
        check_names(client, global, &args, &status).await?;
        show(&args, &status)?;
        return Ok(Code::Done);
    }
    let mut updates = client.watch(request).await?.into_inner();
    while let Some(status) = updates.message().await? {
        show(&args, &status)?;
        if matches!(args.output, Output::Table | Output::Wide) {
            anstream::println!();
        }
    }
    Ok(Code::Done)
}

fn request(global: &Global, args: &args::Get) -> Result<v1::StatusRequest, Failure> {
    use v1::status_request::{All, ServiceKeys, Services};
    if args.kind == Kind::Nodes {
        return Ok(v1::StatusRequest { nodes: true, ..v1::StatusRequest::default() });
    }
    let services = if !args.names.is_empty() {
        let targets: Result<Vec<Target>, String> = args.names.iter().map(|name| name.parse()).collect();
        let targets = targets.map_err(Failure::new)?;
        Services::Named(ServiceKeys {
            keys: targets.iter().map(|target| target.key(&global.namespace)).collect(),
        })
    } else if args.all_namespaces {
        Services::All(All {})
    } else {
        Services::Namespace(global.namespace.clone())
    };
    Ok(v1::StatusRequest { services: Some(services), ..v1::StatusRequest::default() })
}

/// A service that was named and is not there is an error, with the one that was probably meant.
async fn check_names(
    client: &mut Client,
    global: &Global,
    args: &args::Get,
    status: &v1::StatusResponse,
) -> Result<(), Failure> {
    if args.kind == Kind::Nodes {
        let known: Vec<&str> = status.nodes.iter().map(node_name).collect();
        return match args.names.iter().find(|name| !known.contains(&name.as_str())) {
            Some(missing) => Err(no_such("node", missing, known)),
            None => Ok(()),
        };
    }
    for name in &args.names {
        let Ok(target) = name.parse::<Target>() else { continue };
        let key = target.key(&global.namespace);
        if !status.services.iter().any(|found| key_of(found) == Some(&key)) {
            return Err(unknown_service(client, &key).await);
        }
    }
    Ok(())
}

pub fn key_of(status: &v1::ServiceStatus) -> Option<&v1::ServiceKey> {
    status.service.as_ref()?.key.as_ref()
}

fn node_name(node: &v1::NodeStatus) -> &str {
    node.node.as_ref().and_then(|node| node.info.as_ref()).map_or("", |info| &info.name)
}

/// The error for a service that is not there.
pub async fn unknown_service(client: &mut Client, key: &v1::ServiceKey) -> Failure {
    let services = Some(v1::status_request::Services::All(v1::status_request::All {}));
    let all = client.status(v1::StatusRequest { services, ..v1::StatusRequest::default() }).await;
    let names: Vec<String> = match all {
        Ok(status) => status.into_inner().services.iter().filter_map(key_of).map(name_of).collect(),
        Err(_) => Vec::new(),
    };
    no_such("service", &name_of(key), names.iter().map(String::as_str).collect())
}

fn no_such(what: &str, name: &str, known: Vec<&str>) -> Failure {
    let failure = Failure::new(format!("there is no {what} {name}"));
    match text::nearest(name, known.iter().copied()) {
        Some(near) => failure.help(format!("did you mean {near}?")),
        None if known.is_empty() => failure.help(format!("there are no {what}s at all")),
        None => failure.help(format!("there are: {}", known.join(", "))),
    }
}

fn show(args: &args::Get, status: &v1::StatusResponse) -> Result<(), Failure> {
    let wide = args.output == Output::Wide;
    match args.output {
        Output::Json => text::print_json(&as_json(args, status)?)?,
        Output::Yaml => text::print_yaml(&as_json(args, status)?),
        Output::Name => names(args, status).iter().for_each(|name| anstream::println!("{name}")),
        Output::Table | Output::Wide => match args.kind {
            Kind::Services => services(status, wide),
            Kind::Replicas => replicas(args, status, wide),
            Kind::Nodes => nodes(args, status),
            Kind::Revisions => status.services.iter().for_each(revisions),
        },
    }
    Ok(())
}

fn names(args: &args::Get, status: &v1::StatusResponse) -> Vec<String> {
    let services = || status.services.iter();
    match args.kind {
        Kind::Services => {
            services().filter_map(key_of).map(|key| format!("service/{}", name_of(key))).collect()
        }
        Kind::Replicas => services().flat_map(|found| &found.replicas).map(replica_name).collect(),
        Kind::Nodes => wanted_nodes(args, status).map(|node| format!("node/{}", node_name(node))).collect(),
        Kind::Revisions => {
            let of = |found: &v1::ServiceStatus| {
                let name = key_of(found).map(name_of).unwrap_or_default();
                found.revisions.iter().map(|r| format!("{name}@{}", r.number)).collect::<Vec<_>>()
            };
            services().flat_map(of).collect()
        }
    }
}

fn as_json(args: &args::Get, status: &v1::StatusResponse) -> Result<Json, Failure> {
    let list: Vec<Json> = match args.kind {
        Kind::Services => status.services.iter().map(convert::service).collect::<Result<_, _>>()?,
        Kind::Replicas => {
            let replicas = status.services.iter().flat_map(|found| &found.replicas);
            replicas.map(convert::replica).collect::<Result<_, _>>()?
        }
        Kind::Nodes => wanted_nodes(args, status).map(convert::node).collect::<Result<_, _>>()?,
        Kind::Revisions => {
            let revisions = status.services.iter().flat_map(|found| &found.revisions);
            revisions.map(convert::revision).collect::<Result<_, _>>()?
        }
    };
    // One that was named is that object itself, as it was applied; anything else is a list.
    match (args.names.len(), <[Json; 1]>::try_from(list)) {
        (1, Ok([only])) => Ok(only),
        (_, Ok([only])) => Ok(json!([only])),
        (_, Err(list)) => Ok(Json::from(list)),
    }
}

fn wanted_nodes<'a>(
    args: &'a args::Get,
    status: &'a v1::StatusResponse,
) -> impl Iterator<Item = &'a v1::NodeStatus> {
    let wanted =
        |node: &&v1::NodeStatus| args.names.is_empty() || args.names.iter().any(|n| n == node_name(node));
    status.nodes.iter().filter(wanted)
}

fn services(status: &v1::StatusResponse, wide: bool) {
    let mut headings = vec!["NAME", "READY", "UP-TO-DATE", "REVISION", "ROLLOUT", "PORTS", "AGE"];
    if wide {
        headings.extend(["IMAGE", "WAITING ON"]);
    }
    let row = |found: &v1::ServiceStatus| {
        let service = found.service.as_ref()?;
        let spec = service.spec.as_ref()?;
        let mut row = vec![
            key_of(found).map(name_of)?,
            format!("{}/{}", found.ready, spec.replicas),
            found.up_to_date.to_string(),
            service.revision.to_string(),
            convert::rollout_phase(service).to_owned(),
            convert::published(spec),
            text::age(status.now_unix_ms, service.created_at_unix_ms),
        ];
        if wide {
            row.push(convert::main_image(spec));
            row.push(found.waiting_on.first().map_or_else(|| "-".to_owned(), |waiting| waiting.text.clone()));
        }
        Some(row)
    };
    let rows = status.services.iter().filter_map(row).collect();
    table::print(&headings, rows, "there are no services here; `wharf apply -f FILE` makes one");
}

fn replica_name(found: &v1::ReplicaStatus) -> String {
    let Some(replica) = &found.replica else { return String::new() };
    format!("{}.{}", replica.service.as_ref().map(name_of).unwrap_or_default(), replica.slot)
}

fn replicas(args: &args::Get, status: &v1::StatusResponse, wide: bool) {
    let mut headings = vec!["NAME", "REVISION", "STATE", "READY", "RESTARTS", "NODE", "ADDRESS", "AGE"];
    if wide {
        headings.extend(["ID", "PID", "LAST EXIT"]);
    }
    let slots: Vec<u32> = args.names.iter().filter_map(|name| name.parse::<Target>().ok()?.slot).collect();
    let all = status.services.iter().flat_map(|found| &found.replicas);
    let wanted = all
        .filter(|found| slots.is_empty() || found.replica.as_ref().is_some_and(|r| slots.contains(&r.slot)));
    let rows = wanted.filter_map(|found| convert::replica_row(found, status.now_unix_ms, wide)).collect();
    table::print(&headings, rows, "there are no replicas here");
}

fn nodes(args: &args::Get, status: &v1::StatusResponse) {
    let headings = ["NAME", "STATE", "SINCE", "REPLICAS", "CPU", "MEMORY", "ADDRESS", "VERSION"];
    let row = |found: &v1::NodeStatus| convert::node_row(found, status.now_unix_ms);
    table::print(
        &headings,
        wanted_nodes(args, status).filter_map(row).collect(),
        "no agent has registered yet",
    );
}

/// The revisions of a service, newest last.
pub fn revisions(found: &v1::ServiceStatus) {
    let headings = ["REVISION", "HASH", "STATUS", "RUNS", "CREATED", "IMAGE", "REASON"];
    let rows = found.revisions.iter().filter_map(|revision| convert::revision_row(revision, found)).collect();
    table::print(&headings, rows, "there are no revisions");
}
