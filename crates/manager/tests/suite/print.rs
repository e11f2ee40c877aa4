//! What servers do, in lines.

use std::{collections::BTreeMap, sync::Arc};

use consensus::{Payload, Persist};
use manager::{Applied, Codec, Effect, Reply, RequestError, SessionId, View};
use model::{
    Assignment, Desired, DirectoryNews, Dispatch, Endpoint, Heard, Listing, NodeId, ReplicaId, ServiceKey,
};
use store::{Command, NodeChange, Outcome, Step};

use crate::{agent::Agent, codec::Table};

pub(crate) struct Printer {
    table: Table,
    /// What a replica is called: `web.1@2`, and `web.1@2#2` for the second in the slot at that revision.
    labels: BTreeMap<ReplicaId, String>,
    created: BTreeMap<String, u32>,
    sessions: BTreeMap<SessionId, NodeId>,
    lines: Vec<String>,
    /// Whether every view is told of.
    pub(crate) shows_views: bool,
    pub(crate) shows_directory: bool,
}

impl Printer {
    pub(crate) fn new(table: Table) -> Printer {
        Printer {
            table,
            labels: BTreeMap::new(),
            created: BTreeMap::new(),
            sessions: BTreeMap::new(),
            lines: Vec::new(),
            shows_views: false,
            shows_directory: false,
        }
    }

    pub(crate) fn say(&mut self, line: String) {
        self.lines.push(line);
    }

    pub(crate) fn take(&mut self) -> String {
        self.lines.drain(..).map(|line| line + "\n").collect()
    }

    pub(crate) fn name_session(&mut self, session: SessionId, node: NodeId) {
        self.sessions.insert(session, node);
    }

    pub(crate) fn label(&self, id: ReplicaId) -> &str {
        self.labels.get(&id).map_or("?", String::as_str)
    }

    /// The replica that is called so.
    pub(crate) fn find(&self, label: &str) -> Option<ReplicaId> {
        self.labels.iter().find(|(_, known)| *known == label).map(|(id, _)| *id)
    }

    /// Writes are told of the server that decided on them: `leader`, as `id` knows it.
    pub(crate) fn effect(
        &mut self,
        id: u64,
        leader: Option<u64>,
        effect: &Effect,
        agents: &BTreeMap<NodeId, Agent>,
    ) {
        match effect {
            Effect::Persist(persist) if leader == Some(id) => self.persist(id, persist),
            Effect::Persist(Persist { snapshot: Some(snapshot), .. }) => {
                self.say(format!("{id} takes over a snapshot at {}", snapshot.meta.index));
            }
            Effect::Send(_) => {}
            Effect::Reply { id: request, result } => {
                self.say(format!("{id} answers #{}: {}", request.0, answer(result)));
            }
            Effect::ReadReady { id: read, view } => {
                self.say(format!("{id} shows #{}: {}", read.0, shown(view)));
            }
            Effect::Dispatch { session, dispatch } => {
                let is_open = agents.values().any(|agent| agent.session == Some((id, *session)));
                let gone = if is_open { "" } else { " (who is gone)" };
                let node = self.node(*session);
                let said = self.dispatch(dispatch);
                self.say(format!("{id} tells {node}{gone}: {said}"));
            }
            Effect::Directory { session, news } if self.shows_directory => {
                let node = self.node(*session);
                self.say(format!("{id} tells {node}: {}", directory(news)));
            }
            Effect::Directory { .. } => {}
            // Every agent says every second that it is there; what a script says is numbered.
            Effect::Heard { heard: Heard { number: 0, .. }, .. } => {}
            Effect::Heard { session, heard } => {
                let node = self.node(*session);
                let Heard { number, lease, next, .. } = heard;
                self.say(format!("{id} hears heartbeat {number} of {node}: lease {lease}, next in {next}"));
            }
            Effect::CloseSession { session, reason } => {
                let node = self.node(*session);
                self.say(format!("{id} closes session {} of {node}: {reason}", session.0));
            }
            Effect::Snapshot { meta, .. } => self.say(format!("{id} writes a snapshot at {}", meta.index)),
            Effect::Publish(view) if self.shows_views => self.say(format!("{id} publishes {}", shown(view))),
            Effect::MembersReply { id: request, result } => self.say(match result {
                Ok(()) => format!("{id} answers #{}: done", request.0),
                Err(error) => format!("{id} answers #{}: refused: {error}", request.0),
            }),
            Effect::Removed { reason } => self.say(format!("{id} stops: {reason}")),
            Effect::Fatal { reason } => self.say(format!("{id} gives up: {reason}")),
            Effect::Persist(_) | Effect::Publish(_) => {}
        }
    }

    fn node(&self, session: SessionId) -> String {
        self.sessions.get(&session).map_or_else(|| "?".to_owned(), |node| format!("n{}", node.0))
    }

    fn persist(&mut self, id: u64, persist: &Persist) {
        for entry in &persist.entries {
            let words = match &entry.payload {
                Payload::Command(bytes) => self.command(&self.table.decode_command(bytes).unwrap()),
                Payload::Empty => format!("the beginning of term {}", entry.term),
                Payload::Membership(_) => "other members".to_owned(),
            };
            self.say(format!("{id} writes @{}: {words}", entry.index));
        }
    }

    fn command(&mut self, command: &Command) -> String {
        match command {
            Command::Apply(apply) => format!("apply {}", apply.service),
            Command::Delete { service, .. } => format!("delete {service}"),
            Command::Scale { service, replicas, .. } => format!("scale {service} to {replicas}"),
            Command::Undo { service, to, .. } => format!("undo {service} to {to}"),
            Command::Register { info, .. } => format!("register {}", info.name),
            Command::Place { placements, .. } if placements.is_empty() => "what time it is".to_owned(),
            Command::Place { placements, .. } => {
                let place = |p: &store::Placement| format!("{} on n{}", self.label(p.replica), p.node.0);
                format!("place {}", join(placements.iter().map(place)))
            }
            Command::Progress { service, steps, .. } => {
                let steps: Vec<String> = steps.iter().map(|step| self.step(service, step)).collect();
                format!("plan {service}: {}", join(steps))
            }
            Command::Node { node, change, .. } => format!("n{} {}", node.0, node_change(change)),
            Command::Configure { node_lost_after, .. } => format!("nodes are lost after {node_lost_after}"),
            Command::PutMember { member } => format!("member {} {:?}", member.name, member.part),
            Command::Trust(change) => format!("{change:?}"),
            Command::Raise { to } => format!("{to} is in use"),
            Command::Record { events } => join(
                events.iter().map(|event| format!("record: {}", self.with_labels(&event.kind.to_string()))),
            ),
        }
    }

    fn with_labels(&self, text: &str) -> String {
        self.labels.iter().fold(text.to_owned(), |text, (id, label)| text.replace(&id.to_string(), label))
    }

    fn step(&mut self, service: &ServiceKey, step: &Step) -> String {
        match step {
            Step::Create { id, slot, revision, desired } => {
                if !self.labels.contains_key(id) {
                    let label = format!("{service}.{slot}@{revision}");
                    let nth = self.created.entry(label.clone()).or_default();
                    *nth += 1;
                    self.labels.insert(*id, if *nth == 1 { label } else { format!("{label}#{nth}") });
                }
                match desired {
                    Desired::Running => format!("create {}", self.label(*id)),
                    Desired::Prepared | Desired::Stopped => {
                        format!("create {} {}", self.label(*id), desired.as_str())
                    }
                }
            }
            Step::Start { id } => format!("start {}", self.label(*id)),
            Step::Stop { id, reason } => format!("stop {} ({reason})", self.label(*id)),
            Step::Forget { id } => format!("forget {}", self.label(*id)),
            Step::Progressed { available } => format!("{available} available"),
            Step::Complete => "complete".to_owned(),
            Step::RollBack { back_to, reason } => format!("roll back to {back_to} ({reason})"),
            Step::RolledBack => "rolled back".to_owned(),
            Step::Pause { reason } => format!("pause ({reason})"),
            Step::Remove => "remove".to_owned(),
        }
    }

    fn dispatch(&self, dispatch: &Dispatch) -> String {
        let one = |a: &Assignment| format!("{}={}", self.label(a.replica), a.desired.as_str());
        // Ids are random, names are not.
        let sorted = |assignments: &[Assignment]| {
            let mut words: Vec<String> = assignments.iter().map(one).collect();
            words.sort();
            words
        };
        match dispatch {
            Dispatch::Full { sequence, assignments } if assignments.is_empty() => {
                format!("all of it ({sequence}): nothing")
            }
            Dispatch::Full { sequence, assignments } => {
                format!("all of it ({sequence}): {}", join(sorted(assignments)))
            }
            Dispatch::Increment { follows, sequence, changed, removed } => {
                let removed = removed.iter().map(|id| format!("without {}", self.label(*id)));
                format!("({follows} to {sequence}) {}", join(sorted(changed).into_iter().chain(removed)))
            }
        }
    }
}

fn node_change(change: &NodeChange) -> String {
    let because = |reason: &Option<String>| reason.as_ref().map(|r| format!(" ({r})")).unwrap_or_default();
    match change {
        NodeChange::Down { silent_for } => format!("is down (silent for {}s)", silent_for.0 / 1_000),
        NodeChange::Up => "is up".to_owned(),
        NodeChange::Cordon { reason } => format!("cordoned{}", because(reason)),
        NodeChange::Uncordon => "uncordoned".to_owned(),
        NodeChange::Drain { deadline, reason } => {
            let by = deadline.map(|at| format!(" by {}", at.0)).unwrap_or_default();
            format!("drained{by}{}", because(reason))
        }
        NodeChange::Label { set, unset } => {
            let set = set.iter().map(|(key, value)| format!("{key}={value}"));
            format!("labelled {}", join(set.chain(unset.iter().map(|key| format!("{key}-")))))
        }
        NodeChange::Remove { force } => format!("removed{}", if *force { " by force" } else { "" }),
    }
}

fn join(words: impl IntoIterator<Item = String>) -> String {
    words.into_iter().collect::<Vec<_>>().join(", ")
}

fn answer(result: &Result<Reply, RequestError>) -> String {
    match result {
        Ok(reply) if reply.applied.is_empty() => "nothing to do".to_owned(),
        Ok(reply) => join(reply.applied.iter().map(applied)),
        Err(error) => format!("refused: {}", error.to_string().replace('\n', "; ")),
    }
}

fn applied(applied: &Applied) -> String {
    let outcome = match &applied.outcome {
        Outcome::Created { revision } => format!("created at revision {revision}"),
        Outcome::Changed { revision, rollout: true } => format!("goes to revision {revision}"),
        Outcome::Changed { revision, rollout: false } => format!("changed, stays at revision {revision}"),
        Outcome::Unchanged { revision } => format!("unchanged at revision {revision}"),
        Outcome::Deleted => "deleted".to_owned(),
        Outcome::Done => "done".to_owned(),
    };
    let before = applied.previous.as_ref().map_or(0, |before| before.generation.0);
    format!("{} {outcome} (generation {before} to {})", applied.service, applied.generation)
}

/// A view in a line: its version, and each service with what it waits for.
pub(crate) fn shown(view: &View) -> String {
    let mut words = vec![format!("version {}", view.state.version())];
    for service in view.state.services() {
        let replicas = view.state.replicas_of(&service.key).count();
        let wanted = service.spec.replicas;
        let phase = service.rollout.phase.as_str();
        let revision = service.revision;
        words.push(format!("{}@{revision} {phase} with {replicas} of {wanted}", service.key));
        words.extend(view.waiting_on(&service.key).iter().map(|waiting| format!("waiting: {waiting}")));
    }
    join(words)
}

/// `n1=10.1.0.0/24[80->10.1.0.2:80]`; without brackets where nothing is known of its endpoints.
fn directory(news: &DirectoryNews) -> String {
    let listing = |(node, listing): (&NodeId, &Arc<Listing>)| {
        let subnet = listing.subnet.map_or_else(|| "none".to_owned(), |subnet| subnet.to_string());
        let endpoint = |endpoint: &Endpoint| format!("{}->{}", endpoint.published, endpoint.backend);
        let endpoints = listing.endpoints.as_ref();
        let endpoints = endpoints.map(|all| all.iter().map(endpoint).collect::<Vec<_>>().join(" "));
        let endpoints = endpoints.map(|all| format!("[{all}]")).unwrap_or_default();
        format!(" n{}={subnet}{endpoints}", node.0)
    };
    // Versions of a leader begin with its term.
    const LOW: u64 = 0xffff_ffff;
    match news {
        DirectoryNews::Full { version, nodes } => {
            format!("directory {}:{}", version & LOW, nodes.iter().map(listing).collect::<String>())
        }
        DirectoryNews::Change { follows, version, changed, removed } => {
            let changed: String = changed.iter().map(listing).collect();
            let removed: String = removed.iter().map(|node| format!(" -n{}", node.0)).collect();
            format!("directory {} after {}:{changed}{removed}", version & LOW, follows & LOW)
        }
    }
}
