//! What replication rests on: the same commands give the same state, a snapshot is the whole state, and a refused
//! command changes nothing but the version.

mod support;

use model::{Desired, ReplicaId, RevisionNumber, ServiceKey, Slot, StopReason, Version};
use proptest::prelude::*;
use store::{Command, State, Step};
use support::{Speak, apply_of, key, node_info, restored, spec};

/// A command in the words of a generator; what it means may depend on the state.
#[derive(Clone, Debug)]
enum Word {
    Apply { name: String, nonce: u64, replicas: u32, port: u16 },
    Undo { name: String, to: u64 },
    Scale { name: String, replicas: u32 },
    Delete { name: String },
    Register { node: u64 },
    Place { replica: u64, node: u64 },
    Progress { name: String, steps: Vec<Step>, is_stale: bool },
}

fn any_name() -> impl Strategy<Value = String> {
    "[abc]"
}

fn any_step() -> impl Strategy<Value = Step> {
    let id = || (0..12u64).prop_map(ReplicaId);
    let revision = || (1..5u64).prop_map(RevisionNumber);
    let reason = || "(crash|slow)";
    prop_oneof![
        4 => (id(), 1..4u32, revision(), any::<bool>()).prop_map(|(id, slot, revision, holds)| Step::Create {
            id,
            slot: Slot::new(slot).unwrap_or(Slot(std::num::NonZeroU32::MIN)),
            revision,
            desired: if holds { Desired::Prepared } else { Desired::Running },
        }),
        1 => id().prop_map(|id| Step::Start { id }),
        2 => id().prop_map(|id| Step::Stop { id, reason: StopReason::ScaledDown }),
        2 => id().prop_map(|id| Step::Forget { id }),
        1 => (0..4u32).prop_map(|available| Step::Progressed { available }),
        2 => Just(Step::Complete),
        1 => (revision(), reason()).prop_map(|(back_to, reason)| Step::RollBack { back_to, reason }),
        1 => Just(Step::RolledBack),
        1 => reason().prop_map(|reason| Step::Pause { reason }),
    ]
}

fn any_word() -> impl Strategy<Value = Word> {
    let steps = prop::collection::vec(any_step(), 0..5);
    prop_oneof![
        4 => (any_name(), 1..6u64, 0..4u32, 80..84u16)
            .prop_map(|(name, nonce, replicas, port)| Word::Apply { name, nonce, replicas, port }),
        1 => (any_name(), 1..6u64).prop_map(|(name, to)| Word::Undo { name, to }),
        1 => (any_name(), 0..4u32).prop_map(|(name, replicas)| Word::Scale { name, replicas }),
        1 => any_name().prop_map(|name| Word::Delete { name }),
        1 => (1..4u64).prop_map(|node| Word::Register { node }),
        3 => (0..12u64, 1..4u64).prop_map(|(replica, node)| Word::Place { replica, node }),
        6 => (any_name(), steps, prop::bool::weighted(0.1))
            .prop_map(|(name, steps, is_stale)| Word::Progress { name, steps, is_stale }),
    ]
}

/// The log entries that the words stand for: what a leader would propose, since it looks before it does.
fn command(state: &State, word: Word) -> Command {
    let at = model::Timestamp(state.version().0);
    match word {
        Word::Apply { name, nonce, replicas, port } => {
            Command::Apply(apply_of(&name, spec(nonce, replicas, &[port])))
        }
        Word::Undo { name, to } => Command::Undo { service: key(&name), to: RevisionNumber(to), at },
        Word::Scale { name, replicas } => Command::Scale { service: key(&name), replicas, at },
        Word::Delete { name } => Command::Delete { service: key(&name), at },
        Word::Register { node } => Command::Register { info: node_info(node), at },
        Word::Place { replica, node } => {
            let placements =
                vec![store::Placement { replica: ReplicaId(replica), node: model::NodeId(node) }];
            Command::Place { placements, at }
        }
        Word::Progress { name, steps, is_stale } => {
            let service = key(&name);
            let version = state.service(&service).map_or(Version(0), |service| service.version);
            let based_on = Version(version.0 + u64::from(is_stale));
            let steps = steps.into_iter().filter(|step| is_sensible(state, &service, step)).collect();
            Command::Progress { service, based_on, steps, at }
        }
    }
}

/// No leader creates a replica twice, reaches for one of another service or goes back to what is not kept.
fn is_sensible(state: &State, service: &ServiceKey, step: &Step) -> bool {
    let is_own = |id: &ReplicaId| state.replica(*id).is_some_and(|replica| replica.service == *service);
    match step {
        Step::Create { id, revision, .. } => {
            state.replica(*id).is_none() && state.revision(service, *revision).is_some()
        }
        Step::Start { id } | Step::Stop { id, .. } | Step::Forget { id } => is_own(id),
        Step::RollBack { back_to, .. } => state.may_publish(service, *back_to),
        Step::Progressed { .. } | Step::Complete | Step::RolledBack | Step::Pause { .. } | Step::Remove => {
            true
        }
    }
}

/// A duplicate id within one plan is the one thing that `is_sensible` cannot see.
fn without_doubles(command: Command) -> Command {
    let Command::Progress { service, based_on, mut steps, at } = command else { return command };
    let mut created = Vec::new();
    steps.retain(|step| match step {
        Step::Create { id, .. } if created.contains(id) => false,
        Step::Create { id, .. } => {
            created.push(*id);
            true
        }
        _ => true,
    });
    Command::Progress { service, based_on, steps, at }
}

proptest! {
    #[test]
    fn a_log_gives_one_state_which_a_snapshot_holds_whole(words in prop::collection::vec(any_word(), 1..60)) {
        let mut leader = State::default();
        let mut follower = State::default();
        for word in words {
            let command = without_doubles(command(&leader, word));
            let before = leader.clone();
            let answer = leader.say(command.clone());
            prop_assert_eq!(follower.say(command.clone()), answer.clone(), "{:?}", command);
            prop_assert_eq!(&leader, &follower, "after {:?}", &command);
            let snapshot = restored(&leader);
            prop_assert_eq!(&snapshot, &leader, "after {:?}", &command);
            if answer.is_err() {
                prop_assert_eq!(parts(&leader), parts(&before), "refused {:?}", command);
            }
            // A follower that starts from the snapshot goes on as the others do.
            follower = snapshot;
        }
    }
}

/// All but the version.
fn parts(state: &State) -> String {
    let services: Vec<_> = state.services().collect();
    let revisions: Vec<_> = state.all_revisions().collect();
    let replicas: Vec<_> = state.replicas().collect();
    let nodes: Vec<_> = state.nodes().collect();
    let events: Vec<_> = state.events().collect();
    format!("{services:?} {revisions:?} {replicas:?} {nodes:?} {events:?}")
}
