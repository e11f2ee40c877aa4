//! The commands of the scripts.
//!
//! ```text
//! servers 3 [snapshots 5]   a new cluster, with a snapshot after each so many entries; one server without it
//! servers 1 notes 5s        plans that only take notes wait so long; without it they do not wait
//! hello n1 [memory=512Mi] [images=hello:1,web:2] [subnet=10.1.0.0/24]    an agent opens a session with the leader
//! introduce n1              an agent asks for a subnet
//! bye n1                    its connection breaks
//! n1 beats 7                a heartbeat with that number, answered after the next tick
//! n1 goes by 3              the directory of that version is in force there
//! n1 hangs                  its session stands, and nothing comes
//! n1 sees web.1@1 ready     or prepared, failed, completed, removed
//! session 1 sees web.1@1 failed | session 1 ends      what comes late of a session
//! n1 has hello:2            its images are these now
//! cordon #1 n1 | uncordon #1 n1 | drain #1 n1 [60s] | label #1 n1 disk=ssd zone- | rm #1 n1 [by force]
//! n1 forgets                what it has; its disk is gone
//! exit n1 web.1@1 1         a container ended and is started again
//! obey                      every agent does at once what it was told, and reports, until nothing is left to do
//! apply #1 web replicas=2 ready=10s image=hello say=x port=80 memory=64Mi expects=5 bytes=900 level=3 partition=stop [+ db ...]
//! dry-run #1 web ... | delete #1 web db | scale #1 web 3 | undo #1 web [1] | restart #1 web | read #1
//! forge vote 1000 9 1 | forge heartbeat 1000 9 1    of that term, by a server 9 to server 1
//! join 4                    a server with an empty disk and that id starts
//! member #1 add 4 voter | member #1 set 3 removed | lead #1 [3]
//! announce #1 4 4:9       by the server itself: it is at 4:9
//! install 4 level 2         server 4 is stopped, and started as a build that knows level 2
//! members                   who takes part, and what each waits for
//! disk 1 slow | disk 1 ok | sync 1 | snapshot 1 slow | snapshot 1 ok
//! crash 1 [keeping 2] | start 1 | cut 1 | heal
//! clock 2 1h | clock n1 -1h     that clock is ahead or behind; of an agent before its hello
//! wall 2 1h                     the clock of its host is, and the server that runs there goes on by its own
//! time                          how far the cluster's time is ahead of the world's, for who leads
//! tick [10] | advance 30s | freeze 30s    freeze: no server runs meanwhile
//! views on | directory on   shows what is published, and what nodes are told of each other
//! show                      what the leader published last
//! ```
//!
//! `A && B` are two events of one step. `at 2: A` tells server 2, not the leader.

use std::collections::{BTreeMap, BTreeSet};

use manager::{
    Declaration, Event, MemberRequest, NodeRequest, ReadId, Report, Request, RequestId, SessionId,
};
use model::{Bytes, Digest, Level, MemberId, MemberPart, Millis, Name, NodeId, RevisionNumber};

use crate::{
    agent::{Agent, Happens, digest},
    cluster::Cluster,
    forged::{self, Kind},
    print::shown,
    spec::{declaration, key, set},
};

/// More than any script writes.
const SNAPSHOTS_NEVER: u64 = 1_000_000;

pub(crate) struct Script {
    pub(crate) cluster: Cluster,
}

impl Script {
    pub(crate) fn new() -> Script {
        let mut cluster = Cluster::new(1, SNAPSHOTS_NEVER, Millis::ZERO);
        cluster.settle();
        cluster.printer.take();
        Script { cluster }
    }

    pub(crate) fn line(&mut self, line: &str, place: &str) {
        let (at, line) = match line.strip_prefix("at ").and_then(|rest| rest.split_once(": ")) {
            Some((at, line)) => (at.parse().unwrap(), line),
            None => (self.cluster.leader().unwrap_or(1), line),
        };
        let parts: Vec<&str> = line.split(" && ").collect();
        let mut events = Vec::new();
        for part in &parts {
            let words: Vec<&str> = part.split_whitespace().collect();
            match self.event(at, &words) {
                Some(event) => events.push(event),
                None if parts.len() == 1 && self.happens(&words).is_some() => return,
                None => panic!("{place}: {part:?} is not a command here"),
            }
        }
        self.cluster.hears(at, events);
        self.cluster.settle();
    }

    /// What a server hears.
    fn event(&mut self, at: u64, words: &[&str]) -> Option<Event> {
        Some(match words {
            ["hello", node, fields @ ..] => {
                let node = node_id(node);
                let agent = self.cluster.agents.entry(node).or_insert_with(|| Agent::new(node));
                fields.iter().for_each(|field| set_agent(agent, field));
                self.cluster.open_session(node, at)
            }
            ["introduce", node] => {
                let node = node_id(node);
                self.cluster.agents.entry(node).or_insert_with(|| Agent::new(node));
                self.cluster.introduce(node)
            }
            [node, "goes", "by", version] => {
                let (_, session) = self.agent(node).session.unwrap();
                // Scripts count from the beginning of the term.
                let version = (self.cluster.term() << 32) + version.parse::<u64>().unwrap();
                Event::SessionInForce { session, version }
            }
            ["bye", node] => {
                let (_, session) = self.agent(node).session.take().unwrap();
                Event::SessionClosed { session }
            }
            ["session", number, "ends"] => {
                Event::SessionClosed { session: SessionId(number.parse().unwrap()) }
            }
            ["session", number, "sees", label, what] => {
                let id = self.cluster.printer.find(label).unwrap();
                let mut agent = Agent::new(NodeId(0));
                let now = self.cluster.now;
                let observed = vec![agent.happens(id, happens(what), now)];
                let report = Report { observed, said_at: Some(now), ..Report::default() };
                Event::SessionReport { session: SessionId(number.parse().unwrap()), report }
            }
            [node, "beats", number] => {
                let (_, session) = self.agent(node).session.unwrap();
                Event::SessionHeartbeat { session, number: number.parse().unwrap(), usage: None }
            }
            [node, "sees", label, what] => {
                let now = self.agent_clock(node);
                let id = self.cluster.printer.find(label).unwrap();
                let agent = self.agent(node);
                let observed = vec![agent.happens(id, happens(what), now)];
                self.report(node, Report { observed, ..Report::default() })
            }
            [node, "has", images] => {
                let images = read_images(images);
                self.agent(node).images.clone_from(&images);
                self.report(node, Report { images: Some(images), ..Report::default() })
            }
            ["exit", node, label, code] => {
                let id = self.cluster.printer.find(label).unwrap();
                let now = self.agent_clock(node);
                let exits = self.agent(node).exits(id, code.parse().unwrap(), now).into_iter().collect();
                self.report(node, Report { exits, ..Report::default() })
            }
            ["read", number] => self.cluster.read(at, ReadId(numbered(number))),
            ["member", number, verb, id, part] => {
                let (id, part) = (MemberId(id.parse().unwrap()), member_part(part));
                let request = match *verb {
                    "add" => MemberRequest::Add {
                        id,
                        name: server_name(id),
                        address: format!("{id}:1"),
                        part,
                        level: self.cluster.level_of(id),
                    },
                    _ => MemberRequest::SetPart { member: id, part },
                };
                Event::Members { id: RequestId(numbered(number)), request }
            }
            ["announce", number, id, address] => {
                let id = MemberId(id.parse().unwrap());
                let (name, address) = (server_name(id), (*address).to_owned());
                let request = MemberRequest::Announce { id, name, address, level: self.cluster.level_of(id) };
                Event::Members { id: RequestId(numbered(number)), request }
            }
            ["forge", kind, term, from, to] => {
                let kind = match *kind {
                    "vote" => Kind::RequestVote,
                    "heartbeat" => Kind::Heartbeat,
                    _ => return None,
                };
                assert_eq!(at.to_string(), *to, "`at {to}: forge ...`");
                let message = forged::message(from.parse().unwrap(), at, kind, term.parse().unwrap());
                Event::Peer { message, level: Some(Level(1_000)) }
            }
            ["lead", number, to @ ..] => {
                let to = to.first().map(|id| MemberId(id.parse().unwrap()));
                Event::Members { id: RequestId(numbered(number)), request: MemberRequest::Transfer { to } }
            }
            [verb, number, rest @ ..] if number.starts_with('#') => {
                let request = request(verb, rest)?;
                self.cluster.request(at, RequestId(numbered(number)), request)
            }
            _ => return None,
        })
    }

    /// What happens around the servers.
    fn happens(&mut self, words: &[&str]) -> Option<()> {
        let cluster = &mut self.cluster;
        match words {
            ["servers", count] => {
                *cluster = Cluster::new(count.parse().ok()?, SNAPSHOTS_NEVER, Millis::ZERO);
            }
            ["servers", count, "snapshots", every] => {
                *cluster = Cluster::new(count.parse().ok()?, every.parse().ok()?, Millis::ZERO);
            }
            ["servers", count, "notes", span] => {
                let span = Millis::from_secs(span.strip_suffix('s')?.parse().ok()?);
                *cluster = Cluster::new(count.parse().ok()?, SNAPSHOTS_NEVER, span);
            }
            ["join", id] => cluster.join(id.parse().ok()?),
            ["install", id, "level", level] => {
                cluster.install(id.parse().ok()?, Level(level.parse().ok()?));
            }
            ["members"] => cluster.show_members(),
            ["obey"] => cluster.obey(),
            ["disk", id, speed] => cluster.members.get_mut(&id.parse().ok()?)?.is_slow = *speed == "slow",
            [node, "hangs"] => cluster.agents.get_mut(&node_id(node))?.hangs = true,
            [node, "forgets"] => cluster.agents.get_mut(&node_id(node))?.seen.clear(),
            ["snapshot", id, speed] => {
                cluster.members.get_mut(&id.parse().ok()?)?.snapshots_slowly = *speed == "slow";
            }
            ["sync", id] => cluster.sync(id.parse().ok()?),
            ["crash", id] => cluster.crash(id.parse().ok()?, 0),
            ["crash", id, "keeping", kept] => cluster.crash(id.parse().ok()?, kept.parse().ok()?),
            ["start", id] => cluster.start(id.parse().ok()?),
            ["cut", id] => drop(cluster.cut.insert(id.parse().ok()?)),
            ["heal"] => cluster.cut.clear(),
            ["tick"] => cluster.tick(),
            ["tick", count] => (0..count.parse().ok()?).for_each(|_: u32| cluster.tick()),
            ["advance", span] => cluster.advance(Millis::from_secs(span.strip_suffix('s')?.parse().ok()?)),
            ["wall", server, ahead] => drop(cluster.walls.insert(server.parse().ok()?, hours(ahead)?)),
            ["clock", host, ahead] => {
                let ahead_ms = hours(ahead)?;
                match host.parse() {
                    Ok(server) => drop(cluster.clocks.insert(server, ahead_ms)),
                    Err(_) => {
                        let node = node_id(host);
                        cluster.agents.entry(node).or_insert_with(|| Agent::new(node)).ahead_ms = ahead_ms;
                    }
                }
            }
            ["freeze", span] => {
                cluster.advance_at_once(Millis::from_secs(span.strip_suffix('s')?.parse().ok()?));
            }
            ["views", switch] => cluster.printer.shows_views = *switch == "on",
            ["directory", switch] => cluster.printer.shows_directory = *switch == "on",
            ["show"] => {
                let leader = cluster.leader()?;
                let line = format!("{leader}: {}", shown(cluster.checks.view(leader)?));
                cluster.printer.say(line);
            }
            ["time"] => {
                let leader = cluster.leader()?;
                let line = format!("{leader}: the time is {}", cluster.deviation(leader)?);
                cluster.printer.say(line);
            }
            _ => return None,
        }
        self.cluster.settle();
        Some(())
    }

    fn agent(&mut self, node: &str) -> &mut Agent {
        self.cluster.agents.get_mut(&node_id(node)).unwrap()
    }

    fn agent_clock(&self, node: &str) -> model::Timestamp {
        self.cluster.agents[&node_id(node)].clock(self.cluster.now)
    }

    fn report(&mut self, node: &str, report: Report) -> Event {
        let (_, session) = self.agent(node).session.unwrap();
        let report = Report { said_at: Some(self.agent_clock(node)), ..report };
        Event::SessionReport { session, report }
    }
}

fn request(verb: &str, words: &[&str]) -> Option<Request> {
    Some(match (verb, words) {
        ("apply" | "dry-run", declared) => {
            let declarations = declared.split(|word| *word == "+").map(read_declaration).collect();
            Request::Apply { declarations, dry_run: verb == "dry-run" }
        }
        ("delete", services) => Request::Delete { services: services.iter().map(|name| key(name)).collect() },
        ("scale", [service, replicas]) => {
            Request::Scale { service: key(service), replicas: replicas.parse().ok()? }
        }
        ("undo", [service]) => Request::Undo { service: key(service), to: None },
        ("undo", [service, to]) => {
            Request::Undo { service: key(service), to: Some(RevisionNumber(to.parse().ok()?)) }
        }
        ("restart", [service]) => Request::Restart { service: key(service) },
        (_, [node, rest @ ..]) => Request::Node { node: node_id(node), asked: node_request(verb, rest)? },
        _ => return None,
    })
}

fn hours(text: &str) -> Option<i64> {
    let hours: i64 = text.strip_suffix('h')?.parse().ok()?;
    Some(hours * 3_600_000)
}

fn node_request(verb: &str, words: &[&str]) -> Option<NodeRequest> {
    Some(match verb {
        "cordon" => NodeRequest::Cordon { reason: None },
        "uncordon" => NodeRequest::Uncordon,
        "drain" => {
            let within = match words {
                [] => None,
                [span] => Some(Millis::from_secs(span.strip_suffix('s')?.parse().ok()?)),
                _ => return None,
            };
            NodeRequest::Drain { within, reason: None }
        }
        "rm" => NodeRequest::Remove { force: words == ["by", "force"] },
        "label" => {
            let (mut set, mut unset) = (BTreeMap::new(), BTreeSet::new());
            for word in words {
                match word.split_once('=') {
                    Some((key, value)) => drop(set.insert(key.to_owned(), value.to_owned())),
                    None => drop(unset.insert(word.strip_suffix('-')?.to_owned())),
                }
            }
            NodeRequest::Label { set, unset }
        }
        _ => return None,
    })
}

fn read_declaration(words: &[&str]) -> Declaration {
    let mut declared = declaration(words[0]);
    for field in &words[1..] {
        set(&mut declared, field).unwrap_or_else(|| panic!("{field:?} is no field of a service"));
    }
    declared
}

fn set_agent(agent: &mut Agent, field: &str) {
    match field.split_once('=') {
        Some(("memory", amount)) => {
            agent.memory = Bytes(amount.strip_suffix("Mi").unwrap().parse::<u64>().unwrap() << 20);
        }
        Some(("subnet", subnet)) => agent.subnet = Some(subnet.parse().unwrap()),
        Some(("images", images)) => agent.images = read_images(images),
        _ => panic!("{field:?} is no field of an agent"),
    }
}

/// `hello:1,web:2`: names, and numbers that stand for digests.
fn read_images(text: &str) -> Vec<(String, Digest)> {
    let one = |image: &str| {
        let (name, number) = image.split_once(':').unwrap();
        (format!("{name}:latest"), digest(number.parse().unwrap()))
    };
    text.split(',').map(one).collect()
}

fn happens(word: &str) -> Happens {
    match word {
        "prepared" => Happens::Prepared,
        "ready" => Happens::Ready,
        "failed" => Happens::Failed,
        "completed" => Happens::Completed,
        "removed" => Happens::Removed,
        _ => panic!("{word:?} is nothing that an agent sees"),
    }
}

fn node_id(node: &str) -> NodeId {
    NodeId(node[1..].parse().unwrap())
}

fn numbered(word: &str) -> u64 {
    word[1..].parse().unwrap()
}

fn member_part(word: &str) -> MemberPart {
    match word {
        "voter" => MemberPart::Voter,
        "learner" => MemberPart::Learner,
        "removed" => MemberPart::Removed,
        _ => panic!("{word:?} is no part"),
    }
}

fn server_name(id: MemberId) -> Name {
    Name::new(&format!("s{}", id.0)).unwrap()
}
