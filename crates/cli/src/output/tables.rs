//! What `get`, `rollout history`, `events` and `image ls` show to people.

use model::{Revision, Timestamp};
use proto::v1;

use super::{
    clock::Clock,
    table,
    words::{self, or_dash},
};
use crate::answer::{EventView, NodeView, ReplicaView, ServiceView};

/// How much of each thing is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    Normal,
    Wide,
}

impl Width {
    fn columns<'a>(self, normal: &[&'a str], wide: &[&'a str]) -> Vec<&'a str> {
        match self {
            Width::Normal => normal.to_vec(),
            Width::Wide => [normal, wide].concat(),
        }
    }

    /// The cells of a row; those of the wide table are only made for it.
    fn cells(self, mut normal: Vec<String>, wide: impl FnOnce() -> Vec<String>) -> Vec<String> {
        if self == Width::Wide {
            normal.extend(wide());
        }
        normal
    }
}

pub fn services(found: &[ServiceView], clock: &Clock, width: Width) -> String {
    let headings = width.columns(
        &["NAME", "READY", "UP-TO-DATE", "REVISION", "ROLLOUT", "PORTS", "AGE"],
        &["IMAGE", "WAITING ON"],
    );
    let row = |found: &ServiceView| {
        let service = &found.service;
        let normal = vec![
            service.key.to_string(),
            format!("{}/{}", found.ready, service.spec.replicas),
            found.up_to_date.to_string(),
            service.revision.to_string(),
            words::rollout(service).to_owned(),
            words::published(&service.spec),
            clock.age(service.created_at),
        ];
        width.cells(normal, || {
            let image = service.spec.template.main.image.reference.clone();
            vec![image, or_dash(found.waiting_on.first().map(|waiting| &waiting.text))]
        })
    };
    table::render(&headings, found.iter().map(row).collect())
}

pub fn replicas(found: &[&ReplicaView], clock: &Clock, width: Width) -> String {
    let headings = width.columns(
        &["NAME", "REVISION", "STATE", "READY", "RESTARTS", "NODE", "ADDRESS", "AGE"],
        &["ID", "PID", "LAST EXIT"],
    );
    let row = |found: &&ReplicaView| {
        let ReplicaView { replica, observed, node } = found;
        let seen = observed.as_ref();
        let normal = vec![
            words::slot_name(replica),
            replica.revision.to_string(),
            words::state(replica, seen).to_owned(),
            if seen.is_some_and(|seen| seen.ready_since.is_some()) { "yes" } else { "no" }.to_owned(),
            or_dash(seen.map(words::restarts)),
            or_dash(node.as_ref()),
            or_dash(seen.and_then(|seen| seen.address)),
            clock.age(replica.created_at),
        ];
        width.cells(normal, || {
            let main = seen.and_then(words::main_container);
            let exit = main.and_then(|main| main.last_exit.as_ref()).map(|exit| &exit.cause);
            vec![replica.id.to_string(), or_dash(main.and_then(words::pid)), or_dash(exit)]
        })
    };
    table::render(&headings, found.iter().map(row).collect())
}

pub fn nodes(found: &[&NodeView], clock: &Clock, width: Width) -> String {
    let headings = width.columns(
        &["NAME", "STATE", "SINCE", "REPLICAS", "CPU", "MEMORY", "USED", "ADDRESS", "VERSION"],
        &["ID", "LABELS"],
    );
    let row = |found: &&NodeView| {
        let info = &found.node.info;
        let normal = vec![
            info.name.to_string(),
            words::node_state(found),
            or_dash(found.since.map(|since| clock.age(since))),
            found.replicas.to_string(),
            format!("{}/{}", found.allocated_cpu, info.cpu),
            format!("{}/{}", words::mebibytes(found.allocated_memory.0), words::mebibytes(info.memory.0)),
            or_dash(found.used.map(|used| format!("{}, {}", used.cpu, words::mebibytes(used.memory.0)))),
            info.address.to_string(),
            info.agent_version.clone(),
        ];
        width.cells(normal, || {
            let labels: Vec<String> =
                found.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            vec![info.id.to_string(), or_dash(Some(labels.join(",")).filter(|labels| !labels.is_empty()))]
        })
    };
    table::render(&headings, found.iter().map(row).collect())
}

/// The revisions of services, newest last; that which runs now has a star.
pub fn revisions(found: &[ServiceView], clock: &Clock) -> String {
    let row = |of: &ServiceView, revision: &Revision| {
        let (status, reason) = words::fate(&revision.status);
        let runs = of.replicas.iter().filter(|found| found.replica.revision == revision.number).count();
        let star = if revision.number == of.service.revision { " *" } else { "" };
        vec![
            of.service.key.to_string(),
            format!("{}{star}", revision.number),
            status.to_owned(),
            runs.to_string(),
            clock.age(revision.created_at),
            revision.hash.to_string(),
            revision.template.main.image.reference.clone(),
            or_dash(Some(reason).filter(|reason| !reason.is_empty())),
        ]
    };
    let rows = found.iter().flat_map(|of| of.revisions.iter().map(move |revision| row(of, revision)));
    table::render(
        &["SERVICE", "REVISION", "STATUS", "RUNS", "AGE", "HASH", "IMAGE", "REASON"],
        rows.collect(),
    )
}

pub fn events(events: &[EventView], clock: &Clock) -> String {
    let row =
        |event: &EventView| vec![clock.time(event.at), or_dash(event.service.as_ref()), event.what.clone()];
    table::render(&["TIME", "SERVICE", "WHAT"], events.iter().map(row).collect())
}

pub fn images(images: &[v1::Image], clock: &Clock, width: Width) -> String {
    let row = |image: &v1::Image| {
        let digest = match width {
            Width::Normal => image.digest.get(..19).unwrap_or(&image.digest),
            Width::Wide => &image.digest,
        };
        let age = match image.created_at_unix_ms {
            0 => words::NOTHING.to_owned(),
            created => clock.age(Timestamp(created)),
        };
        vec![
            image.reference.clone(),
            digest.to_owned(),
            words::size(image.size_bytes),
            age,
            image.node_name.clone(),
        ]
    };
    table::render(&["IMAGE", "DIGEST", "SIZE", "AGE", "NODE"], images.iter().map(row).collect())
}
