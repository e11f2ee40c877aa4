//! An agent that is a session and nothing else: what it is told to run, it says that it runs.
//!
//! It says what a real one says and as often: a hello with all it has, what changes, heartbeats when they are due.

use std::{
    collections::BTreeMap,
    time::{Duration, UNIX_EPOCH},
};

use proto::{
    PROTOCOL_VERSION,
    v1::{
        self, AgentMessage, agent_message::Message as Says, agents_client::AgentsClient, container_observed,
        dispatch::Kind, server_message::Message as Hears,
    },
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

/// The one image that every node has, by its name and by its digest.
pub(crate) const IMAGE: &str = "bench:1";
const CPU_MILLICORES: u64 = 16_000;
const MEMORY_BYTES: u64 = 64 << 30;
/// Until a server says otherwise, as of a real agent.
const FIRST_INTERVAL: Duration = Duration::from_secs(3);
const QUEUE: usize = 64;

#[derive(Debug)]
pub(crate) struct Agent {
    node: u64,
    observed: BTreeMap<u64, v1::Observed>,
}

impl Agent {
    pub(crate) fn new(node: u64) -> Agent {
        Agent { node, observed: BTreeMap::new() }
    }

    /// Opens a session and speaks in it until it ends; says why. `opened` is called with the first assignments.
    pub(crate) async fn attend(&mut self, channel: Channel, opened: impl FnOnce()) -> Status {
        let (outbound, messages) = mpsc::channel(QUEUE);
        // There is room for it.
        let _ = outbound.try_send(message(Says::Hello(self.hello())));
        match AgentsClient::new(channel).session(ReceiverStream::new(messages)).await {
            Ok(answer) => self.converse(outbound, answer.into_inner(), opened).await,
            Err(refused) => refused,
        }
    }

    fn hello(&self) -> v1::Hello {
        v1::Hello {
            protocol_version: PROTOCOL_VERSION,
            said_at_unix_ms: Some(now_ms()),
            node: Some(v1::NodeInfo {
                id: self.node,
                name: format!("node-{:x}", self.node),
                labels: BTreeMap::new(),
                cpu_millicores: CPU_MILLICORES,
                memory_bytes: MEMORY_BYTES,
                address_ipv4: 0x0a00_0001,
                agent_version: "bench".to_owned(),
                subnet: None,
            }),
            observed: self.observed.values().cloned().collect(),
            images: vec![v1::NodeImage {
                reference: IMAGE.to_owned(),
                digest: format!("sha256:{}", "0".repeat(64)),
            }],
            level: 0,
        }
    }

    async fn converse(
        &mut self,
        outbound: mpsc::Sender<AgentMessage>,
        mut inbound: Streaming<v1::ServerMessage>,
        opened: impl FnOnce(),
    ) -> Status {
        let mut opened = Some(opened);
        let (mut number, mut interval, mut due) = (0, FIRST_INTERVAL, Instant::now());
        loop {
            let says = tokio::select! {
                heard = inbound.message() => match heard {
                    Ok(heard) => match heard.and_then(|heard| heard.message) {
                        Some(Hears::Dispatch(dispatch)) => {
                            if let Some(opened) = opened.take() {
                                opened();
                            }
                            self.run(dispatch)
                        }
                        Some(Hears::Heard(heard)) => {
                            interval = Duration::from_millis(heard.next_ms);
                            continue;
                        }
                        Some(Hears::Servers(_) | Hears::Directory(_) | Hears::Open(_)) => continue,
                        None => return Status::unavailable("the session ended"),
                    },
                    Err(status) => return status,
                },
                () = sleep_until(due) => {
                    number += 1;
                    due = Instant::now() + interval;
                    let usage = v1::Usage { cpu_millicores: 700, memory_bytes: 3 << 30 };
                    vec![Says::Heartbeat(v1::Heartbeat { number, usage: Some(usage) })]
                }
            };
            for one in says {
                if outbound.send(message(one)).await.is_err() {
                    return Status::unavailable("the session ended");
                }
            }
        }
    }

    /// What there is to say to these orders.
    fn run(&mut self, dispatch: v1::Dispatch) -> Vec<Says> {
        let (sequence, changed, removed) = match dispatch.kind {
            Some(Kind::Full(full)) => (full.sequence, full.assignments, Vec::new()),
            Some(Kind::Increment(increment)) => (increment.sequence, increment.changed, increment.removed),
            None => return Vec::new(),
        };
        let mut news = Vec::new();
        for assignment in changed.unwrap_or_default().assignments {
            let observed = match assignment.desired() {
                v1::Desired::Stopped => gone(assignment.replica),
                v1::Desired::Running | v1::Desired::Prepared | v1::Desired::Unspecified => {
                    running(assignment.replica)
                }
            };
            if self
                .observed
                .insert(observed.replica, observed.clone())
                .is_none_or(|known| known.phase != observed.phase)
            {
                news.push(observed);
            }
        }
        for replica in removed {
            self.observed.remove(&replica);
        }
        let mut says = vec![Says::Acknowledged(v1::Acknowledged { sequence })];
        if !news.is_empty() {
            says.push(Says::Report(v1::Report {
                observed: news,
                exits: Vec::new(),
                said_at_unix_ms: Some(now_ms()),
            }));
        }
        says
    }
}

fn message(message: Says) -> AgentMessage {
    AgentMessage { message: Some(message) }
}

fn running(replica: u64) -> v1::Observed {
    let now = now_ms();
    let running = container_observed::Running { pid: 4_711, since_unix_ms: now, ready: true };
    let timeline = v1::Timeline {
        received_unix_ms: Some(now),
        image_ready_unix_ms: Some(now),
        started_unix_ms: Some(now),
        ready_unix_ms: Some(now),
    };
    v1::Observed {
        replica,
        phase: v1::Phase::Running.into(),
        ready_since_unix_ms: Some(now),
        timeline: Some(timeline),
        address_ipv4: Some(0x0a01_0001 + (replica as u32 & 0xffff)),
        containers: vec![v1::ContainerObserved {
            name: "main".to_owned(),
            state: Some(container_observed::State::Running(running)),
            restarts: 0,
            last_exit: None,
        }],
        message: None,
    }
}

/// Nothing is left of it.
fn gone(replica: u64) -> v1::Observed {
    let phase = v1::Phase::Removed.into();
    v1::Observed { replica, phase, timeline: Some(v1::Timeline::default()), ..Default::default() }
}

fn now_ms() -> u64 {
    UNIX_EPOCH.elapsed().unwrap_or_default().as_millis() as u64
}
