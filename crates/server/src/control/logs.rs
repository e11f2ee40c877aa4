//! Logs of several replicas in one stream.
//!
//! What cannot be had of one replica does not keep back the lines of the others: it is told as the error that ends the
//! stream. Whoever follows gets the replicas that start later too, from their first line on, and goes on where it was
//! when the agent of a node comes back.

use std::collections::{BTreeMap, BTreeSet};

use manager::View;
use model::{NodeId, ReplicaId};
use proto::v1::{self, relay_frame::Frame};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Control, Outbound, chosen::Chosen, read::leads_no_more, refuse::stopped};
use crate::{access::Passed, brain::Stopped, relay::Relays};

const QUEUE: usize = 256;
/// Lines that were on their way when an agent went away are not older than this.
const ON_THEIR_WAY_MS: u64 = 5_000;

impl Control {
    pub(super) async fn do_logs(
        &self,
        asked: Passed<v1::LogsRequest>,
    ) -> Result<Outbound<v1::LogLine>, Status> {
        let request = asked.into_inner();
        let chosen = Chosen::read(&request.namespace, &request.service, request.replica.as_ref())?;
        let views = self.brain.views();
        let view = self.leaders_view().await?;
        chosen.check(&view)?;
        let (to_user, outbound) = mpsc::channel(QUEUE);
        let reader = Reader { relays: self.relays.clone(), views, request, to_user };
        tokio::spawn(read_all(reader, chosen, view));
        Ok(Box::pin(ReceiverStream::new(outbound)))
    }
}

/// What reading one replica's logs takes.
#[derive(Clone)]
struct Reader {
    relays: Relays,
    views: watch::Receiver<View>,
    request: v1::LogsRequest,
    to_user: mpsc::Sender<Result<v1::LogLine, Status>>,
}

async fn read_all(mut reader: Reader, chosen: Chosen, mut view: View) {
    let follows = reader.follows();
    let (mut views, to_user) = (reader.views.clone(), reader.to_user.clone());
    let mut reading = JoinSet::new();
    let mut known = BTreeSet::new();
    let mut failed = None;
    loop {
        for replica in chosen.started(&view) {
            if let Some(node) = replica.node
                && known.insert(replica.id)
            {
                reading.spawn(reader.clone().read(replica.id, node));
            }
        }
        // Of those that come later, everything is new.
        reader.request.tail = None;
        let may_go_on = follows && failed.is_none() && chosen.may_grow(&view);
        if reading.is_empty() && !may_go_on {
            break;
        }
        tokio::select! {
            Some(ended) = reading.join_next() => {
                let ended = ended.unwrap_or_else(|panic| Err(Status::internal(panic.to_string())));
                failed = failed.or(ended.err());
            }
            changed = views.changed(), if follows => match changed {
                Ok(()) => {
                    view = views.borrow_and_update().clone();
                    // Of what starts from now on, only the next leader hears.
                    if !view.is_leader {
                        failed = Some(leads_no_more());
                        break;
                    }
                }
                Err(_) => {
                    failed = Some(stopped(Stopped));
                    break;
                }
            },
            () = to_user.closed() => return,
        }
    }
    if let Some(status) = failed {
        // Fails where the user has gone.
        let _ = to_user.send(Err(status)).await;
    }
}

impl Reader {
    fn follows(&self) -> bool {
        self.request.follow && !self.request.previous
    }

    async fn read(mut self, replica: ReplicaId, node: NodeId) -> Result<(), Status> {
        let mut said = Said::default();
        loop {
            let session = self.relays.session_of(node);
            let status = match self.read_on(replica, node, &mut said).await {
                Ok(()) => return Ok(()),
                Err(status) => status,
            };
            if !self.follows() || proto::reason::reason(&status) != Some(v1::Reason::NodeSilent) {
                return Err(status);
            }
            if !self.agent_is_back(replica, node, session).await {
                return Ok(());
            }
            if let Some(since) = said.until_unix_ms() {
                self.request.tail = None;
                self.request.since_unix_ms = Some(since.saturating_sub(ON_THEIR_WAY_MS));
            }
        }
    }

    /// Waits until the node has another session than this one. Not so if the replica is forgotten before that.
    async fn agent_is_back(&mut self, replica: ReplicaId, node: NodeId, before: Option<u64>) -> bool {
        let (relays, mut views) = (self.relays.clone(), self.views.clone());
        let has_another = || relays.session_of(node).is_some_and(|session| Some(session) != before);
        // A session is registered before the view that shows it is published.
        let back = views.wait_for(|view| has_another() || view.state.replica(replica).is_none());
        back.await.is_ok() && has_another()
    }

    async fn read_on(&self, replica: ReplicaId, node: NodeId, said: &mut Said) -> Result<(), Status> {
        let wanted = v1::open::NodeLogs { replica: replica.0, request: Some(self.request.clone()) };
        let mut relay = self.relays.open(node, v1::open::Request::Logs(wanted)).await?;
        let mut again = said.clone();
        while let Some(frame) = relay.next().await? {
            let Frame::LogLine(line) = frame else { continue };
            if again.skips(&line) {
                continue;
            }
            said.note(&line);
            if self.to_user.send(Ok(line)).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// How far a replica's logs were told: of each container the time of the last line, and how many lines of that time.
#[derive(Clone, Debug, Default)]
struct Said(BTreeMap<String, (u64, u32)>);

impl Said {
    fn note(&mut self, line: &v1::LogLine) {
        match self.0.get_mut(&line.container) {
            Some((unix_ns, lines)) if *unix_ns == line.unix_ns => *lines += 1,
            Some(last) => *last = (line.unix_ns, 1),
            None => drop(self.0.insert(line.container.clone(), (line.unix_ns, 1))),
        }
    }

    /// Whether this line was told before, when the lines come again in their order.
    fn skips(&mut self, line: &v1::LogLine) -> bool {
        match self.0.get_mut(&line.container) {
            Some((unix_ns, lines)) if *unix_ns == line.unix_ns && *lines > 0 => {
                *lines -= 1;
                true
            }
            Some((unix_ns, _)) => line.unix_ns < *unix_ns,
            None => false,
        }
    }

    /// Up to when every container that said something was told.
    fn until_unix_ms(&self) -> Option<u64> {
        self.0.values().map(|(unix_ns, _)| unix_ns / 1_000_000).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(container: &str, unix_ns: u64, text: &'static str) -> v1::LogLine {
        v1::LogLine { container: container.to_owned(), unix_ns, text: text.into(), ..v1::LogLine::default() }
    }

    #[test]
    fn lines_that_come_again_are_told_once() {
        let all = [line("main", 1, "a"), line("side", 1, "b"), line("main", 2, "c"), line("main", 2, "d")];
        for told in 0..=all.len() {
            let mut said = Said::default();
            all[..told].iter().for_each(|line| said.note(line));
            let mut again = said.clone();
            let new: Vec<_> = all.iter().filter(|line| !again.skips(line)).cloned().collect();
            assert_eq!(new, all[told..], "after {told} lines");
        }
    }
}
