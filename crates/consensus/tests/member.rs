//! One member at a time, as a dialogue: what goes in, what comes out.

use bytes::Bytes;
use consensus::{
    CommittedEntry, Config, Consensus, Delivery, MemberChange, Membership, PeerMessage, PeerMessageKind,
    Persist, ProposeError, Read, ReadError, Ready, Recovered, Role, Snapshot, StartError, StepError,
};

fn member(id: u64, voters: u64) -> Consensus {
    let recovered = Recovered::bootstrap_with(id, Membership::of_voters(1..=voters));
    Consensus::new(Config::new(id), recovered).expect("a fresh member starts")
}

/// All that is ready, without confirming any write.
fn drain(member: &mut Consensus) -> Vec<Ready> {
    std::iter::from_fn(|| member.ready()).collect()
}

fn writes(readies: &[Ready]) -> Vec<&Persist> {
    readies.iter().filter_map(|ready| ready.persist.as_ref()).collect()
}

fn committed(readies: &[Ready]) -> Vec<(u64, CommittedEntry)> {
    readies.iter().flat_map(|ready| &ready.committed).map(|c| (c.index, c.entry.clone())).collect()
}

/// Confirms every write at once and applies everything, until nothing is left. Gives what was committed.
fn settle(member: &mut Consensus) -> Vec<(u64, CommittedEntry)> {
    let mut all = Vec::new();
    while let Some(ready) = member.ready() {
        all.extend(committed(std::slice::from_ref(&ready)));
        let installed = ready.install.map(|snapshot| snapshot.meta.index);
        if let Some(last) = ready.committed.last().map(|c| c.index).or(installed) {
            member.applied(last);
        }
        if let Some(persist) = ready.persist {
            member.persisted(persist.number);
        }
    }
    all
}

fn command(text: &str) -> CommittedEntry {
    CommittedEntry::Command(Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn a_single_voter_leads_at_once_and_writes_once_per_batch() {
    let mut one = member(1, 1);
    assert_eq!(one.status().role, Role::Leader);
    assert_eq!(settle(&mut one), [(2, CommittedEntry::Empty)]);
    for text in ["a", "b", "c"] {
        one.propose(text.into()).expect("it leads");
    }
    let before = drain(&mut one);
    let [persist] = writes(&before)[..] else { panic!("one write for the batch: {before:?}") };
    assert_eq!(persist.entries.len(), 3);
    assert_eq!(committed(&before), [], "nothing is committed before it is durable");
    one.persisted(persist.number);
    let after = drain(&mut one);
    assert_eq!(committed(&after), [(3, command("a")), (4, command("b")), (5, command("c"))]);
    assert_eq!(writes(&after), Vec::<&Persist>::new(), "the commit index alone is not worth a write");
    one.propose("d".into()).expect("it leads");
    let next = drain(&mut one);
    assert_eq!(
        writes(&next)[0].hard_state.map(|hard_state| hard_state.commit),
        Some(5),
        "it goes with the next one"
    );
}

#[test]
fn a_later_write_confirms_the_earlier_ones() {
    let mut one = member(1, 1);
    settle(&mut one);
    one.propose("a".into()).expect("it leads");
    let first = drain(&mut one);
    one.propose("b".into()).expect("it leads");
    let second = drain(&mut one);
    assert!(writes(&first)[0].number < writes(&second)[0].number);
    one.persisted(writes(&second)[0].number);
    assert_eq!(committed(&drain(&mut one)), [(3, command("a")), (4, command("b"))]);
}

#[test]
fn a_restarted_voter_applies_again_what_its_snapshot_lacks() {
    let mut one = member(1, 1);
    let mut recovered = Recovered::bootstrap(1);
    one.propose("a".into()).expect("it leads");
    for ready in drain(&mut one) {
        let persist = ready.persist.expect("the first write has everything");
        recovered.entries.extend(persist.entries);
        recovered.hard_state = persist.hard_state.expect("and the term");
    }
    let mut again = Consensus::new(Config::new(1), recovered).expect("it starts");
    let new_term = CommittedEntry::Empty;
    assert_eq!(settle(&mut again), [(2, CommittedEntry::Empty), (3, command("a")), (4, new_term)]);
}

/// Two members; `to` hears everything that `from` says now.
fn deliver(from: &mut Vec<PeerMessage>, to: &mut Consensus) {
    let id = to.status().id;
    for message in from.drain(..).filter(|message| message.to == id) {
        to.step(message).expect("an honest message");
    }
}

fn messages(readies: Vec<Ready>) -> Vec<PeerMessage> {
    readies.into_iter().flat_map(|ready| ready.messages).collect()
}

#[test]
fn a_vote_is_heard_only_after_it_is_durable() {
    let (mut one, mut two) = (member(1, 2), member(2, 2));
    while one.status().role != Role::Candidate {
        one.tick();
    }
    // The vote before the vote changes nothing and needs no write.
    let mut ask = messages(drain(&mut one));
    deliver(&mut ask, &mut two);
    let mut grant = messages(drain(&mut two));
    assert_eq!(grant.len(), 1);
    deliver(&mut grant, &mut one);
    let real = drain(&mut one);
    let vote = writes(&real)[0].clone();
    assert_eq!(vote.hard_state.map(|hard_state| (hard_state.term, hard_state.vote)), Some((2, 1)));
    assert_eq!(messages(real), [], "asking for votes means having voted for oneself");
    one.persisted(vote.number);
    let mut ask = messages(drain(&mut one));
    assert_eq!(ask.len(), 1);
    deliver(&mut ask, &mut two);
    let granted = drain(&mut two);
    let vote = writes(&granted)[0].clone();
    assert_eq!(messages(granted), []);
    two.persisted(vote.number);
    deliver(&mut messages(drain(&mut two)), &mut one);
    assert_eq!(one.status().role, Role::Leader);
    // The leader may send what it has not written itself; the follower may not acknowledge what it has not.
    let mut entries = messages(drain(&mut one));
    assert_eq!(entries.len(), 1);
    deliver(&mut entries, &mut two);
    let received = drain(&mut two);
    let number = writes(&received)[0].number;
    assert_eq!(messages(received), []);
    two.persisted(number);
    assert_eq!(messages(drain(&mut two)).len(), 1);
}

#[test]
fn proposals_are_refused_with_the_reason() {
    let mut two = member(2, 3);
    assert_eq!(two.propose("a".into()), Err(ProposeError::NotLeader { leader: None }));
    let config =
        Config { max_command_bytes: 10, max_uncommitted_bytes: 12, max_message_bytes: 5, ..Config::new(1) };
    let mut one = Consensus::new(config, Recovered::bootstrap(1)).expect("it starts");
    settle(&mut one);
    assert_eq!(one.propose(vec![1; 11]), Err(ProposeError::TooLarge { bytes: 11, max: 10 }));
    assert_eq!(one.propose(Vec::new()), Err(ProposeError::Empty));
    one.propose(vec![1; 10]).expect("there is room");
    assert_eq!(one.propose(vec![1; 10]), Err(ProposeError::Overloaded));
    settle(&mut one);
    one.propose(vec![1; 10]).expect("there is room again");
}

#[test]
fn a_read_waits_for_the_first_commit_of_the_term() {
    let mut one = member(1, 1);
    assert_eq!(one.read_index(7), Err(ReadError::NotReady { leader: Some(1) }));
    settle(&mut one);
    one.read_index(8).expect("the leader has committed in its term");
    let reads: Vec<Read> = drain(&mut one).into_iter().flat_map(|ready| ready.reads).collect();
    assert_eq!(reads, [Read { context: 8, index: 2 }]);
}

#[test]
fn messages_that_no_peer_may_send_are_refused() {
    let mut one = member(1, 2);
    let mut two = member(2, 2);
    while two.status().role != Role::Candidate {
        two.tick();
    }
    let honest = messages(drain(&mut two)).remove(0);
    let garbled = PeerMessage { bytes: Bytes::from_static(b"\xff\xff\xff"), ..honest.clone() };
    assert_eq!(one.step(garbled), Err(StepError::Undecodable { from: 2 }));
    let forged = PeerMessage { from: 3, ..honest.clone() };
    let claim = StepError::Misaddressed { from: 3, to: 1, claimed_from: 2, claimed_to: 1 };
    assert_eq!(one.step(forged), Err(claim));
    // A proposal: kind 2, to 1, from 2, in protobuf.
    let proposal = PeerMessage { bytes: Bytes::from_static(&[8, 2, 16, 1, 24, 2]), ..honest.clone() };
    assert_eq!(one.step(proposal), Err(StepError::NotForPeers { from: 2, kind: "MsgPropose".to_owned() }));
    // An answer to an append (kind 4) from somebody who is no member.
    let answer = [8, 4, 16, 1, 24, 9, 32, 1];
    let stranger = PeerMessage { from: 9, bytes: Bytes::copy_from_slice(&answer), ..honest.clone() };
    let unknown = StepError::UnknownSender { from: 9, kind: "MsgAppendResponse".to_owned() };
    assert_eq!(one.step(stranger), Err(unknown));
    one.step(honest).expect("an honest message");
}

/// A member came back with an older disk under its old id.
#[test]
fn a_member_that_lost_its_log_is_told_so_instead_of_panicking() {
    let mut one = member(1, 2);
    // A heartbeat (kind 8) of term 5 that commits up to 90.
    let heartbeat = [8, 8, 16, 1, 24, 2, 32, 5, 64, 90];
    let bytes = Bytes::copy_from_slice(&heartbeat);
    let message = PeerMessage { from: 2, to: 1, kind: PeerMessageKind::Ordinary, bytes };
    assert_eq!(one.step(message), Err(StepError::LostLog { acknowledged: 90, last_index: 1 }));
}

#[test]
fn a_new_member_gets_a_snapshot_in_which_it_appears() {
    let mut one = member(1, 1);
    settle(&mut one);
    one.propose("a".into()).expect("it leads");
    one.propose_membership(&[MemberChange::AddLearner(2)]).expect("nothing else is under way");
    let expected = Membership { voters: vec![1], learners: vec![2], ..Membership::default() };
    let last = settle(&mut one).pop().expect("the change is committed");
    assert_eq!(last, (4, CommittedEntry::Membership(expected.clone())));
    let mut two = Consensus::new(Config::new(2), Recovered::joining(2)).expect("it starts");
    let mut snapshot = None;
    for _ in 0..20 {
        one.tick();
        deliver(&mut messages(drain(&mut one)), &mut two);
        if one.status().snapshot_wanted {
            // The one from the beginning does not know the learner, so raft would ignore it.
            let meta = one.snapshot_meta();
            assert_eq!((meta.index, &meta.membership), (4, &expected));
            one.compact(Snapshot { meta, data: Bytes::from_static(b"a") });
        }
        while let Some(ready) = two.ready() {
            assert!(
                ready.install.is_none() || ready.persist.is_none(),
                "it is applied only once it is durable"
            );
            snapshot = snapshot.or(ready.install.clone());
            ready.install.iter().for_each(|snapshot| two.applied(snapshot.meta.index));
            ready.committed.last().iter().for_each(|last| two.applied(last.index));
            ready.persist.iter().for_each(|persist| two.persisted(persist.number));
            deliver(&mut ready.messages.clone(), &mut one);
        }
    }
    let snapshot = snapshot.expect("the snapshot arrived");
    assert_eq!((snapshot.meta.index, snapshot.data), (4, Bytes::from_static(b"a")));
    let status = two.status();
    assert_eq!((status.leader, status.applied, status.membership), (Some(1), 4, expected));
    assert!(!one.status().snapshot_wanted);
}

/// The leader took the first for lost, and sent a newer one, while the member still wrote the first.
#[test]
fn a_member_that_is_sent_two_snapshots_has_the_members_of_each_in_turn() {
    let mut one = member(1, 1);
    settle(&mut one);
    one.propose_membership(&[MemberChange::AddLearner(2)]).expect("nothing else is under way");
    settle(&mut one);
    let mut two = Consensus::new(Config::new(2), Recovered::joining(2)).expect("it starts");
    let first = snapshot_message(&mut one, &mut two);
    one.report_snapshot(2, Delivery::Failed);
    one.propose_membership(&[MemberChange::AddLearner(3)]).expect("nothing else is under way");
    settle(&mut one);
    let second = snapshot_message(&mut one, &mut two);

    let mut numbers = Vec::new();
    for message in [first, second] {
        two.step(message).expect("it is from the leader");
        numbers.extend(writes(&drain(&mut two)).iter().map(|persist| persist.number));
    }
    let mut seen = Vec::new();
    for number in numbers {
        two.persisted(number);
        for snapshot in drain(&mut two).into_iter().filter_map(|ready| ready.install) {
            two.applied(snapshot.meta.index);
            let status = two.status();
            seen.push((status.applied, status.membership.learners));
        }
    }
    assert_eq!(seen, [(3, vec![2]), (4, vec![2, 3])]);
}

/// Makes a snapshot of where the leader is, and gives the message in which it is sent to a follower that answers all else.
fn snapshot_message(leader: &mut Consensus, follower: &mut Consensus) -> PeerMessage {
    let meta = leader.snapshot_meta();
    leader.compact(Snapshot { meta, data: Bytes::from_static(b"a") });
    for _ in 0..20 {
        leader.tick();
        let mut sent = messages(drain(leader));
        if let Some(at) = sent.iter().position(|message| message.kind == PeerMessageKind::Snapshot) {
            return sent.remove(at);
        }
        deliver(&mut sent, follower);
        while let Some(mut ready) = follower.ready() {
            ready.persist.iter().for_each(|persist| follower.persisted(persist.number));
            deliver(&mut ready.messages, leader);
        }
    }
    panic!("no snapshot is sent: {:?}", leader.status());
}

#[test]
fn impossible_membership_changes_are_refused_before_they_are_proposed() {
    let mut one = member(1, 1);
    settle(&mut one);
    let removed_all = one.propose_membership(&[MemberChange::Remove(1)]);
    assert!(matches!(removed_all, Err(ProposeError::Impossible(_))), "{removed_all:?}");
    one.propose_membership(&[MemberChange::AddLearner(2)]).expect("a possible change");
    assert_eq!(one.propose_membership(&[MemberChange::AddLearner(3)]), Err(ProposeError::ChangePending));
}

#[test]
fn a_start_with_the_wrong_log_is_refused() {
    let other = Consensus::new(Config::new(1), Recovered::bootstrap(2)).map(drop);
    assert_eq!(other, Err(StartError::OtherMember { configured: 1, recovered: 2 }));
    let mut gap = Recovered::bootstrap(1);
    gap.entries.push(consensus::Entry { index: 5, term: 1, payload: consensus::Payload::Empty });
    let error = Consensus::new(Config::new(1), gap).map(drop).expect_err("entries 2 to 4 are missing");
    assert!(matches!(error, StartError::Inconsistent(_)), "{error}");
    let config = Config { election_ticks: 1, heartbeat_ticks: 1, ..Config::new(1) };
    let error =
        Consensus::new(config, Recovered::bootstrap(1)).map(drop).expect_err("no time for a heartbeat");
    assert!(matches!(error, StartError::Config(_)), "{error}");
}

/// The leader that meant to leave the joint state may have died: whoever leads next does it.
#[test]
fn a_joint_state_does_not_outlive_its_leader() {
    let joint =
        Membership { voters: vec![1], voters_outgoing: vec![1], auto_leave: true, ..Membership::default() };
    let recovered = Recovered::bootstrap_with(1, joint);
    let mut one = Consensus::new(Config::new(1), recovered).expect("it starts from a snapshot in between");
    assert!(one.status().membership.is_joint() && one.is_changing());
    let mut all = Vec::new();
    for _ in 0..50 {
        one.tick();
        all.extend(settle(&mut one));
    }
    let left = CommittedEntry::Membership(Membership::single(1));
    assert!(all.iter().any(|(_, entry)| *entry == left), "it left the joint state: {all:?}");
    assert_eq!(one.status().membership, Membership::single(1));
    assert!(!one.is_changing());
    one.propose_membership(&[MemberChange::AddLearner(2)]).expect("the next change is possible");
}

/// Confirms and applies what is ready; gives what is for others.
fn says(member: &mut Consensus) -> Vec<PeerMessage> {
    let mut said = Vec::new();
    while let Some(ready) = member.ready() {
        said.extend(ready.messages);
        if let Some(last) = ready.committed.last() {
            member.applied(last.index);
        }
        if let Some(persist) = ready.persist {
            member.persisted(persist.number);
        }
    }
    said
}

/// Until nobody has anything to say. What is for somebody else is lost.
fn talk(members: &mut [Consensus]) {
    loop {
        let said: Vec<PeerMessage> = members.iter_mut().flat_map(says).collect();
        if said.is_empty() {
            return;
        }
        for message in said {
            if let Some(to) = members.iter_mut().find(|member| member.status().id == message.to) {
                to.step(message).expect("an honest message");
            }
        }
    }
}

/// One that asks whether it would be elected is not heard by whoever heard the leader later, and that one cannot be elected.
#[test]
fn whoever_has_the_longest_log_is_elected_within_two_election_timeouts() {
    const LATER: u32 = 5;
    let mut members: Vec<Consensus> = (1..=3).map(|id| member(id, 3)).collect();
    while members[0].status().role != Role::Leader {
        members[0].tick();
        talk(&mut members);
    }
    members[0].propose(b"known to two".to_vec()).expect("it leads");
    talk(&mut members[..2]);
    let left = &mut members[1..];
    for tick in 1..2 * Config::new(1).election_ticks {
        left[0].tick();
        if tick > LATER {
            left[1].tick();
        }
        talk(left);
    }
    assert_eq!(left[0].status().role, Role::Leader);
}
