//! The members, the network between them, the client, and the checks.

use std::collections::BTreeMap;

use bytes::Bytes;
use consensus::{
    CommittedEntry, Config, Consensus, Delivery, MemberChange, MemberId, Membership, PeerMessage,
    PeerMessageKind, Ready, Recovered, Role, Snapshot,
};

use crate::{disk::Disk, random::Random};

/// Chances in a thousand per step, except for `delay` (the longest way of a message, in steps).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) crash: u64,
    pub(crate) lose: u64,
    pub(crate) delay: u64,
    pub(crate) change: u64,
    pub(crate) lying_disk: bool,
}

#[derive(Debug)]
struct Member {
    consensus: Consensus,
    disk: Disk,
    /// The whole applied state: the commands, in order.
    state: Vec<u64>,
    applied: u64,
}

#[derive(Debug)]
pub(crate) struct Cluster {
    random: Random,
    faults: Faults,
    /// The client has gone home.
    quiet: bool,
    step: u64,
    members: BTreeMap<MemberId, Member>,
    down: BTreeMap<MemberId, (u64, Disk)>,
    network: BTreeMap<(u64, u64), PeerMessage>,
    sent: u64,
    next_command: u64,
    proposed: BTreeMap<u64, (MemberId, u64)>,
    acknowledged: Vec<u64>,
    /// What was applied at each index, by whoever was first.
    history: BTreeMap<u64, (u64, Option<u64>)>,
    leaders: BTreeMap<u64, MemberId>,
    next_context: u64,
    reads: BTreeMap<u64, (MemberId, usize)>,
    waiting_reads: Vec<(MemberId, u64, usize)>,
    changes: usize,
    next_member: MemberId,
    trace: Vec<(u64, MemberId, u64, u64)>,
}

fn config(id: MemberId) -> Config {
    Config { election_ticks: 10, heartbeat_ticks: 2, entries_kept: 5, ..Config::new(id) }
}

fn start(recovered: Recovered) -> (Consensus, Vec<u64>, u64) {
    let (state, applied) = recovered.snapshot.as_ref().map_or((Vec::new(), 0), decode);
    let consensus =
        Consensus::new(config(recovered.id), recovered).expect("what was written can be started from");
    (consensus, state, applied)
}

fn decode(snapshot: &Snapshot) -> (Vec<u64>, u64) {
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    (snapshot.data.chunks(8).map(number).collect(), snapshot.meta.index)
}

impl Cluster {
    pub(crate) fn new(seed: u64, voters: u64, faults: Faults) -> Cluster {
        let membership = Membership::of_voters(1..=voters);
        let members = (1..=voters)
            .map(|id| {
                let recovered = Recovered::bootstrap_with(id, membership.clone());
                let disk = Disk::new(recovered.clone());
                let (consensus, state, applied) = start(recovered);
                (id, Member { consensus, disk, state, applied })
            })
            .collect();
        Cluster {
            random: Random::new(seed),
            faults,
            quiet: false,
            step: 0,
            members,
            down: BTreeMap::new(),
            network: BTreeMap::new(),
            sent: 0,
            next_command: 1,
            proposed: BTreeMap::new(),
            acknowledged: Vec::new(),
            history: BTreeMap::new(),
            leaders: BTreeMap::new(),
            next_context: 0,
            reads: BTreeMap::new(),
            waiting_reads: Vec::new(),
            changes: 0,
            next_member: voters + 1,
            trace: Vec::new(),
        }
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    pub(crate) fn membership_changes(&self) -> usize {
        self.changes
    }

    pub(crate) fn trace(&self) -> &[(u64, MemberId, u64, u64)] {
        &self.trace
    }

    pub(crate) fn step(&mut self) {
        self.step += 1;
        self.restart();
        self.crash();
        self.client();
        let ids: Vec<MemberId> = self.members.keys().copied().collect();
        for id in ids {
            if self.random.per_mille(300) {
                self.member(id).consensus.tick();
            }
            self.deliver(id);
            self.work(id);
            self.sync(id);
            self.snapshot(id);
        }
    }

    /// No more faults: everything must come to rest, with everybody in agreement and nothing lost.
    pub(crate) fn calm(&mut self) {
        self.faults = Faults { lying_disk: self.faults.lying_disk, ..Faults::default() };
        let deadline = self.step + 20_000;
        let progress = self.acknowledged.len() + 3;
        while self.step < deadline && self.acknowledged.len() < progress {
            self.step();
        }
        self.quiet = true;
        while self.step < deadline && !(self.down.is_empty() && self.agreed()) {
            self.step();
        }
        assert!(
            self.acknowledged.len() >= progress,
            "no progress after the faults ended: {:#?}",
            self.statuses()
        );
        assert!(self.agreed(), "no agreement after the faults ended: {:#?}", self.statuses());
        let leader = self.leader().expect("agreed means that there is a leader");
        let state = &self.members[&leader].state;
        for command in &self.acknowledged {
            assert!(state.contains(command), "command {command} was acknowledged and is lost");
        }
    }

    fn statuses(&self) -> Vec<consensus::Status> {
        self.members.values().map(|member| member.consensus.status()).collect()
    }

    fn leader(&self) -> Option<MemberId> {
        let leads = |member: &&Member| member.consensus.status().role == Role::Leader;
        let newest = self.members.values().filter(leads).max_by_key(|member| member.consensus.status().term);
        newest.map(|member| member.consensus.status().id)
    }

    fn agreed(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let leader = self.members[&leader].consensus.status();
        let voters = leader.membership.voters.iter().filter_map(|id| self.members.get(id));
        let mut statuses = voters.map(|member| member.consensus.status());
        let same = statuses.all(|s| s.term == leader.term && s.applied == leader.last_index);
        same && !leader.membership.is_joint()
    }

    fn member(&mut self, id: MemberId) -> &mut Member {
        self.members.get_mut(&id).expect("only members that are up are asked")
    }

    fn restart(&mut self) {
        let due: Vec<MemberId> =
            self.down.iter().filter(|(_, (at, _))| *at <= self.step).map(|(id, _)| *id).collect();
        for id in due {
            let Some((_, mut disk)) = self.down.remove(&id) else { continue };
            let (consensus, state, applied) = start(disk.crash(0));
            self.members.insert(id, Member { consensus, disk, state, applied });
        }
    }

    fn crash(&mut self) {
        if !self.random.per_mille(self.faults.crash) {
            return;
        }
        let ids: Vec<MemberId> = self.members.keys().copied().collect();
        let Some(id) = self.random.pick(&ids) else { return };
        let Some(mut member) = self.members.remove(&id) else { return };
        let kept = self.random.below(member.disk.waiting() as u64 + 1) as usize;
        member.disk.crash(kept);
        let back = self.step + 1 + self.random.below(150);
        self.down.insert(id, (back, member.disk));
        self.reads.retain(|_, (asked, _)| *asked != id);
        self.waiting_reads.retain(|(asked, _, _)| *asked != id);
    }

    fn client(&mut self) {
        let ids: Vec<MemberId> = self.members.keys().copied().collect();
        let Some(id) = self.random.pick(&ids) else { return };
        if !self.quiet && self.random.per_mille(300) {
            let command = self.next_command;
            if let Ok(proposed) = self.member(id).consensus.propose(command.to_le_bytes().to_vec()) {
                self.next_command += 1;
                self.proposed.insert(command, (id, proposed.term));
                assert!(proposed.index > 1);
            }
        }
        if self.random.per_mille(100) {
            let context = self.next_context;
            self.next_context += 1;
            if self.member(id).consensus.read_index(context).is_ok() {
                self.reads.insert(context, (id, self.acknowledged.len()));
            }
        }
        if self.random.per_mille(self.faults.change) {
            self.change_members(id);
        }
    }

    /// Adds a learner, makes one a voter, replaces a voter in one joint change, or removes one.
    fn change_members(&mut self, id: MemberId) {
        let now = self.member(id).consensus.status().membership;
        let learner = self.random.pick(&now.learners);
        let voter = self.random.pick(&now.voters);
        let changes = match (self.random.below(4), learner, voter) {
            (0, _, _) if now.learners.len() < 2 && now.voters.len() < 6 => {
                vec![MemberChange::AddLearner(self.next_member)]
            }
            (1, Some(learner), _) => vec![MemberChange::AddVoter(learner)],
            (2, Some(learner), Some(voter)) => {
                vec![MemberChange::AddVoter(learner), MemberChange::Remove(voter)]
            }
            (3, _, Some(voter)) if now.voters.len() > 2 => vec![MemberChange::Remove(voter)],
            _ => return,
        };
        if self.member(id).consensus.propose_membership(&changes).is_ok() {
            self.changes += 1;
            if changes == [MemberChange::AddLearner(self.next_member)] {
                let recovered = Recovered::joining(self.next_member);
                let disk = Disk::new(recovered.clone());
                let (consensus, state, applied) = start(recovered);
                self.members.insert(self.next_member, Member { consensus, disk, state, applied });
                self.next_member += 1;
            }
        }
    }

    fn deliver(&mut self, id: MemberId) {
        let due: Vec<(u64, u64)> = self.network.range(..(self.step, 0)).map(|(key, _)| *key).collect();
        for key in due {
            if self.network[&key].to != id {
                continue;
            }
            let Some(message) = self.network.remove(&key) else { continue };
            if self.random.per_mille(20) {
                self.arrive(message.clone()); // Arrives twice.
            }
            match self.member(id).consensus.step(message) {
                Ok(()) | Err(consensus::StepError::UnknownSender { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn send(&mut self, message: PeerMessage) {
        let lost = self.random.per_mille(self.faults.lose) || !self.members.contains_key(&message.to);
        if message.kind == PeerMessageKind::Snapshot {
            let delivered = if lost { Delivery::Failed } else { Delivery::Arrived };
            let to = message.to;
            self.member(message.from).consensus.report_snapshot(to, delivered);
        }
        if lost {
            let to = message.to;
            return self.member(message.from).consensus.report_unreachable(to);
        }
        self.arrive(message);
    }

    fn arrive(&mut self, message: PeerMessage) {
        self.sent += 1;
        let arrives = self.step + 1 + self.random.below(self.faults.delay + 1);
        self.network.insert((arrives, self.sent), message);
    }

    fn work(&mut self, id: MemberId) {
        while let Some(ready) = self.member(id).consensus.ready() {
            self.handle(id, ready);
        }
        let (status, applied) = {
            let member = self.member(id);
            (member.consensus.status(), member.applied)
        };
        if status.role == Role::Leader {
            let other = self.leaders.insert(status.term, id).filter(|&other| other != id);
            assert_eq!(other, None, "two leaders in term {}", status.term);
        }
        let done = |read: &(MemberId, u64, usize)| read.0 == id && read.1 <= applied;
        let served: Vec<usize> = self.waiting_reads.iter().filter(|r| done(r)).map(|r| r.2).collect();
        self.waiting_reads.retain(|read| !done(read));
        for acknowledged in served {
            let state = &self.members[&id].state;
            let seen = self.acknowledged[..acknowledged].iter().all(|command| state.contains(command));
            assert!(seen, "a read at member {id} misses what was acknowledged before it began");
        }
        self.trace.push((self.step, id, status.term, status.applied));
    }

    fn handle(&mut self, id: MemberId, ready: Ready) {
        if let Some(persist) = ready.persist {
            self.member(id).disk.write(persist);
        }
        for message in ready.messages {
            self.send(message);
        }
        if let Some(snapshot) = ready.install {
            let member = self.member(id);
            let (state, applied) = decode(&snapshot);
            assert!(applied >= member.applied, "a snapshot takes member {id} back");
            (member.state, member.applied) = (state, applied);
        }
        for committed in ready.committed {
            let command = match &committed.entry {
                CommittedEntry::Command(data) => {
                    Some(u64::from_le_bytes(data.as_ref().try_into().expect("eight bytes")))
                }
                CommittedEntry::Empty | CommittedEntry::Membership(_) => None,
            };
            let entry = (committed.term, command);
            let first = *self.history.entry(committed.index).or_insert(entry);
            assert_eq!(first, entry, "members disagree on entry {}", committed.index);
            let member = self.member(id);
            assert!(committed.index > member.applied, "member {id} applies {} twice", committed.index);
            (member.applied, _) = (committed.index, member.state.extend(command));
            self.acknowledge(id, committed.term, command);
        }
        for read in ready.reads {
            if let Some((asked, acknowledged)) = self.reads.remove(&read.context) {
                assert_eq!(asked, id, "a read was answered at another member");
                self.waiting_reads.push((id, read.index, acknowledged));
            }
        }
        let member = self.member(id);
        member.consensus.applied(member.applied);
    }

    /// The proposer answers its client once it applies the proposal in the term in which it made it.
    fn acknowledge(&mut self, id: MemberId, term: u64, command: Option<u64>) {
        let Some(command) = command else { return };
        if self.proposed.get(&command) == Some(&(id, term)) {
            self.proposed.remove(&command);
            self.acknowledged.push(command);
        }
    }

    fn sync(&mut self, id: MemberId) {
        let lying = self.faults.lying_disk;
        let waiting = self.member(id).disk.waiting();
        if lying && waiting > 0 {
            let member = self.member(id);
            if let Some(number) = member.disk.last_waiting() {
                member.consensus.persisted(number);
            }
        }
        if waiting > 0 && self.random.per_mille(400) {
            let count = 1 + self.random.below(waiting as u64) as usize;
            let member = self.member(id);
            if let Some(number) = member.disk.sync(count).filter(|_| !lying) {
                member.consensus.persisted(number);
            }
        }
        self.work(id);
    }

    fn snapshot(&mut self, id: MemberId) {
        let now = self.random.per_mille(10);
        let member = self.member(id);
        let wanted = member.consensus.status().snapshot_wanted;
        if !(now || wanted) || member.applied == 0 {
            return;
        }
        let data: Vec<u8> = member.state.iter().flat_map(|command| command.to_le_bytes()).collect();
        let snapshot = Snapshot { meta: member.consensus.snapshot_meta(), data: Bytes::from(data) };
        assert_eq!(snapshot.meta.index, member.applied);
        member.disk.save(&snapshot);
        member.consensus.compact(snapshot);
    }
}
