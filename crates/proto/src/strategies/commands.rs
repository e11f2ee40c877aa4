//! Commands and their steps.

use model::{NodeId, ReplicaId, TokenId, Version};
use proptest::{
    collection::{btree_set, vec},
    option,
    prelude::*,
};
use store::{Apply, Command, NodeChange, Placement, State, Step, TrustChange};

use super::{
    access_token, belief, desired, event, hash, join_token, key, level, map, member, node_id, node_info,
    number, replica_id, slot, span, spec, stop_reason, text, time, trust,
};

pub(crate) fn command() -> impl Strategy<Value = Command> {
    let version = || any::<u64>().prop_map(Version);
    let placement =
        any::<(u64, u64)>().prop_map(|(id, node)| Placement { replica: ReplicaId(id), node: NodeId(node) });
    prop_oneof![
        (key(), map(), map(), spec(), hash(), option::of(version()), time()).prop_map(
            |(service, labels, annotations, spec, hash, expects, at)| {
                Command::Apply(Apply { service, labels, annotations, spec, hash, expects, at })
            }
        ),
        (key(), time()).prop_map(|(service, at)| Command::Delete { service, at }),
        (key(), any::<u32>(), time()).prop_map(|(service, replicas, at)| Command::Scale {
            service,
            replicas,
            at
        }),
        (key(), number(), time()).prop_map(|(service, to, at)| Command::Undo { service, to, at }),
        (node_info(), time()).prop_map(|(info, at)| Command::Register { info, at }),
        (vec(placement, 0..4), time()).prop_map(|(placements, at)| Command::Place { placements, at }),
        (key(), version(), vec(step(), 0..5), time()).prop_map(|(service, based_on, steps, at)| {
            Command::Progress { service, based_on, steps, at }
        }),
        vec(event(), 0..4).prop_map(|events| Command::Record { events }),
        member().prop_map(|member| Command::PutMember { member }),
        trust_change().prop_map(Command::Trust),
        (node_id(), node_change(), time()).prop_map(|(node, change, at)| Command::Node { node, change, at }),
        (span(), time()).prop_map(|(node_lost_after, at)| Command::Configure { node_lost_after, at }),
        level().prop_map(|to| Command::Raise { to }),
    ]
}

fn trust_change() -> impl Strategy<Value = TrustChange> {
    prop_oneof![
        (trust(), vec(join_token(), 0..3)).prop_map(|(trust, tokens)| TrustChange::Found { trust, tokens }),
        (join_token(), option::of(join_token()))
            .prop_map(|(token, replaces)| TrustChange::PutJoinToken { token, replaces }),
        any::<u64>().prop_map(|id| TrustChange::RemoveJoinToken { id: TokenId(id) }),
        access_token().prop_map(|token| TrustChange::PutAccessToken { token }),
        any::<u64>().prop_map(|id| TrustChange::RemoveAccessToken { id: TokenId(id) }),
        (trust(), text()).prop_map(|(trust, replaces)| TrustChange::Rotate { trust, replaces }),
        (any::<u64>(), belief())
            .prop_map(|(host, belief)| TrustChange::Believe { host: NodeId(host), belief }),
    ]
}

fn node_change() -> impl Strategy<Value = NodeChange> {
    prop_oneof![
        span().prop_map(|silent_for| NodeChange::Down { silent_for }),
        Just(NodeChange::Up),
        option::of(text()).prop_map(|reason| NodeChange::Cordon { reason }),
        Just(NodeChange::Uncordon),
        (option::of(time()), option::of(text()))
            .prop_map(|(deadline, reason)| NodeChange::Drain { deadline, reason }),
        (map(), btree_set("[a-z]{1,3}", 0..3)).prop_map(|(set, unset)| NodeChange::Label { set, unset }),
        any::<bool>().prop_map(|force| NodeChange::Remove { force }),
    ]
}

/// What users and agents say to an empty cluster, one after the other: a state that commands can reach.
pub(crate) fn reached_state() -> impl Strategy<Value = State> {
    let is_outside = |command: &Command| !matches!(command, Command::Place { .. } | Command::Progress { .. });
    vec(command().prop_filter("not the leader's", is_outside), 0..24).prop_map(|commands| {
        let mut state = State::default();
        for (version, command) in (1..).map(Version).zip(commands) {
            // A command that is rejected leaves no more than its version.
            let _ = state.apply(version, command);
        }
        state
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (replica_id(), slot(), number(), desired()).prop_map(|(id, slot, revision, desired)| Step::Create {
            id,
            slot,
            revision,
            desired
        }),
        replica_id().prop_map(|id| Step::Start { id }),
        (replica_id(), stop_reason()).prop_map(|(id, reason)| Step::Stop { id, reason }),
        replica_id().prop_map(|id| Step::Forget { id }),
        any::<u32>().prop_map(|available| Step::Progressed { available }),
        Just(Step::Complete),
        (number(), text()).prop_map(|(back_to, reason)| Step::RollBack { back_to, reason }),
        Just(Step::RolledBack),
        text().prop_map(|reason| Step::Pause { reason }),
        Just(Step::Remove),
    ]
}
