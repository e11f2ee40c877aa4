//! What each command does, and what it is refused for.
#![expect(clippy::unwrap_used, reason = "a test fails where it goes wrong")]

mod support;

use model::{
    Desired, EventKind, Generation, NodeId, Protocol, ReplicaId, Revision, RevisionNumber, RevisionStatus,
    RolloutPhase, StopReason, Timestamp, Version,
};
use store::{Command, Outcome, Rejected, State, Step};
use support::{Speak, apply_of, create, key, service, spec, steps};

fn outcome(answer: support::Answer) -> Outcome {
    answer.unwrap().0
}

fn revision(number: u64) -> RevisionNumber {
    RevisionNumber(number)
}

fn numbers(state: &State, name: &str) -> Vec<u64> {
    state.revisions(&key(name)).map(|kept| kept.number.0).collect()
}

fn status(state: &State, name: &str, number: u64) -> RevisionStatus {
    state.revision(&key(name), revision(number)).unwrap().status.clone()
}

#[test]
fn applying_creates_changes_or_says_that_nothing_changed() {
    let mut state = State::default();
    assert_eq!(outcome(state.apply_spec("web", spec(1, 2, &[]))), Outcome::Created { revision: revision(1) });
    let created = service(&state, "web").clone();
    assert_eq!(
        outcome(state.apply_spec("web", spec(1, 2, &[]))),
        Outcome::Unchanged { revision: revision(1) }
    );
    assert_eq!(*service(&state, "web"), created, "the version stays as well");

    let scaled = Outcome::Changed { revision: revision(1), rollout: false };
    assert_eq!(outcome(state.apply_spec("web", spec(1, 3, &[]))), scaled);
    let renewed = Outcome::Changed { revision: revision(2), rollout: true };
    assert_eq!(outcome(state.apply_spec("web", spec(2, 3, &[]))), renewed);
    let web = service(&state, "web");
    assert_eq!((web.generation, web.version), (Generation(3), Version(4)));
    assert_eq!((web.rollout.from, web.rollout.to), (Some(revision(1)), revision(2)));

    // The old template again is the old revision again.
    let back = Outcome::Changed { revision: revision(1), rollout: true };
    assert_eq!(outcome(state.apply_spec("web", spec(1, 3, &[]))), back);
    assert_eq!(numbers(&state, "web"), [1, 2]);
}

#[test]
fn an_apply_may_expect_a_version() {
    let mut state = State::default();
    let mut apply = apply_of("web", spec(1, 1, &[]));
    apply.expects = Some(Version(0));
    state.say(Command::Apply(apply.clone())).unwrap();
    let conflict = Rejected::Conflict { service: key("web"), is: Version(1), expected: Version(0) };
    assert_eq!(state.say(Command::Apply(apply.clone())), Err(conflict));
    apply.expects = Some(Version(1));
    apply.spec.replicas = 2;
    state.say(Command::Apply(apply)).unwrap();
}

#[test]
fn a_scale_keeps_a_rollout_going_and_where_it_came_from() {
    let mut state = State::default();
    state.apply_spec("web", spec(1, 2, &[])).unwrap();
    steps(&mut state, "web", vec![Step::Complete]);
    state.apply_spec("web", spec(2, 2, &[])).unwrap();
    steps(&mut state, "web", vec![Step::Progressed { available: 1 }]);
    state.scale("web", 5).unwrap();
    let rollout = &service(&state, "web").rollout;
    assert_eq!((rollout.from, rollout.to, rollout.available), (Some(revision(1)), revision(2), 0));
    assert_eq!((rollout.generation, &rollout.phase), (Generation(3), &RolloutPhase::Progressing));

    // In a rollback it scales what is gone back to, and the rollback goes on.
    steps(&mut state, "web", vec![Step::RollBack { back_to: revision(1), reason: "crash".to_owned() }]);
    state.scale("web", 4).unwrap();
    let web = service(&state, "web");
    assert_eq!((web.revision, web.rollout.to), (revision(1), revision(2)));
    assert!(matches!(web.rollout.phase, RolloutPhase::RollingBack { .. }));

    // To apply what is gone back to is to want it: no rollback any more.
    state.apply_spec("web", spec(1, 4, &[])).unwrap();
    let rollout = &service(&state, "web").rollout;
    assert_eq!((rollout.to, &rollout.phase), (revision(1), &RolloutPhase::Progressing));

    assert_eq!(outcome(state.scale("web", 4)), Outcome::Unchanged { revision: revision(1) });
    assert_eq!(state.scale("api", 4), Err(Rejected::NoService(key("api"))));
}

#[test]
fn a_paused_rollout_that_is_tried_again_can_still_go_back() {
    let mut state = State::default();
    state.apply_spec("web", spec(1, 2, &[])).unwrap();
    steps(&mut state, "web", vec![Step::Complete]);
    state.apply_spec("web", spec(2, 2, &[])).unwrap();
    steps(&mut state, "web", vec![Step::Pause { reason: "crash".to_owned() }]);
    assert_eq!(status(&state, "web", 2), RevisionStatus::Failed { reason: "crash".to_owned() });
    state.apply_spec("web", spec(2, 3, &[])).unwrap();
    let rollout = &service(&state, "web").rollout;
    assert_eq!((rollout.from, rollout.to), (Some(revision(1)), revision(2)));
    assert_eq!(rollout.phase, RolloutPhase::Progressing);
}

#[test]
fn a_rollback_ends_as_one_even_after_a_pause() {
    let mut state = State::default();
    state.apply_spec("web", spec(1, 2, &[])).unwrap();
    steps(&mut state, "web", vec![Step::Complete]);
    assert_eq!(status(&state, "web", 1), RevisionStatus::Stable);
    state.apply_spec("web", spec(2, 2, &[])).unwrap();
    let crash = || "crash".to_owned();
    steps(&mut state, "web", vec![Step::RollBack { back_to: revision(1), reason: crash() }]);
    assert_eq!(service(&state, "web").revision, revision(1));
    steps(&mut state, "web", vec![Step::Pause { reason: "slow".to_owned() }]);
    assert_eq!(status(&state, "web", 2), RevisionStatus::Failed { reason: crash() });
    assert_eq!(status(&state, "web", 1), RevisionStatus::Stable);
    steps(&mut state, "web", vec![Step::RolledBack]);
    let ended = RolloutPhase::RolledBack { back_to: revision(1), reason: crash(), at: Timestamp(9) };
    assert_eq!(service(&state, "web").rollout.phase, ended);
}

#[test]
fn a_rollout_of_no_replicas_proves_nothing() {
    let mut state = State::default();
    state.apply_spec("web", spec(1, 0, &[])).unwrap();
    steps(&mut state, "web", vec![Step::Complete]);
    assert!(matches!(service(&state, "web").rollout.phase, RolloutPhase::Completed { .. }));
    assert_eq!(status(&state, "web", 1), RevisionStatus::Untried);
}

#[test]
fn undo_makes_a_kept_revision_the_spec_again() {
    let mut state = State::default();
    state.apply_spec("web", spec(1, 2, &[])).unwrap();
    state.apply_spec("web", spec(2, 3, &[])).unwrap();
    let changed = Outcome::Changed { revision: revision(1), rollout: true };
    assert_eq!(outcome(state.undo("web", 1)), changed);
    assert_eq!(service(&state, "web").spec, spec(1, 3, &[]), "the scale is not undone");
    assert_eq!(outcome(state.undo("web", 1)), Outcome::Unchanged { revision: revision(1) });
    let unknown = Rejected::NoRevision { service: key("web"), revision: revision(9) };
    assert_eq!(state.undo("web", 9), Err(unknown));
    assert_eq!(state.undo("api", 1), Err(Rejected::NoService(key("api"))));
}

#[test]
fn a_deleted_service_takes_nothing_more_and_leaves_nothing_behind() {
    let mut state = State::default();
    state.apply_spec("web", spec(1, 1, &[80])).unwrap();
    state.register(1);
    steps(&mut state, "web", vec![create(7, 1, 1)]);
    state.put(7, 1).unwrap();
    assert_eq!(outcome(state.delete("web")), Outcome::Deleted);
    assert_eq!(outcome(state.delete("web")), Outcome::Deleted, "it may be said twice");
    assert_eq!(state.apply_spec("web", spec(2, 1, &[])), Err(Rejected::Deleting(key("web"))));
    assert_eq!(state.undo("web", 1), Err(Rejected::Deleting(key("web"))));
    assert_eq!(state.scale("web", 2), Err(Rejected::Deleting(key("web"))));

    let stop = Step::Stop { id: ReplicaId(7), reason: StopReason::Deleted };
    steps(&mut state, "web", vec![stop]);
    let gone = steps(&mut state, "web", vec![Step::Forget { id: ReplicaId(7) }, Step::Remove]);
    assert!(gone.forgotten.contains(&ReplicaId(7)) && gone.nodes.contains(&NodeId(1)));
    assert_eq!(
        (state.services().count(), state.all_revisions().count(), state.replicas().count()),
        (0, 0, 0)
    );
    assert_eq!(state.replicas_on(NodeId(1)).count(), 0);
    assert_eq!(state.published_by(Protocol::Tcp, 80), None);
    assert_eq!(state.delete("web"), Err(Rejected::NoService(key("web"))));
    // A service of that name afterwards is another.
    assert_eq!(outcome(state.apply_spec("web", spec(9, 1, &[]))), Outcome::Created { revision: revision(1) });
}

#[test]
fn a_port_of_the_nodes_belongs_to_one_service() {
    let mut state = State::default();
    let taken = |port, by| {
        let (service, protocol) = (key(if by == "web" { "api" } else { "web" }), Protocol::Tcp);
        Err(Rejected::PortTaken { service, protocol, port, by: key(by) })
    };
    state.apply_spec("web", spec(1, 1, &[80, 443])).unwrap();
    assert_eq!(state.apply_spec("api", spec(1, 1, &[443])), taken(443, "web"));
    assert!(state.service(&key("api")).is_none(), "what is refused leaves nothing behind");
    steps(&mut state, "web", vec![Step::Complete]);

    // Revision 2 gives 443 back, but only once nobody can go back to revision 1.
    state.apply_spec("web", spec(2, 1, &[80])).unwrap();
    assert_eq!(state.apply_spec("api", spec(1, 1, &[443])), taken(443, "web"));
    steps(&mut state, "web", vec![Step::Complete]);
    state.apply_spec("api", spec(1, 1, &[443])).unwrap();
    assert_eq!(state.undo("web", 1), taken(443, "api"));
    assert!(!state.may_publish(&key("web"), revision(1)));
    assert!(state.may_publish(&key("web"), revision(2)));
}

#[test]
fn after_a_rollback_the_ports_are_those_that_run() {
    let mut state = State::default();
    state.apply_spec("web", spec(1, 1, &[80])).unwrap();
    steps(&mut state, "web", vec![Step::Complete]);
    state.apply_spec("web", spec(2, 1, &[81])).unwrap();
    let back = Step::RollBack { back_to: revision(1), reason: String::new() };
    steps(&mut state, "web", vec![back, Step::RolledBack]);
    assert_eq!(state.published_by(Protocol::Tcp, 80), Some(&key("web")));
    assert!(state.apply_spec("api", spec(1, 1, &[80])).is_err());
}

#[test]
fn a_rollback_does_not_take_a_port_that_another_service_has_by_now() {
    let mut state = State::default();
    for (nonce, port) in [(1, 80), (2, 81)] {
        state.apply_spec("web", spec(nonce, 1, &[port])).unwrap();
        steps(&mut state, "web", vec![Step::Complete]);
    }
    state.apply_spec("web", spec(3, 1, &[81])).unwrap();
    let seen = service(&state, "web").version;
    state.apply_spec("api", spec(1, 1, &[80])).unwrap();
    let back_to = |number| vec![Step::RollBack { back_to: revision(number), reason: String::new() }];
    assert_eq!(state.based_on("web", seen, back_to(1)), Err(Rejected::Stale { service: key("web") }));
    state.based_on("web", seen, back_to(2)).unwrap();
}

#[test]
fn a_rollout_that_is_over_takes_no_more_steps() {
    let mut state = State::default();
    state.apply_spec("web", spec(1, 1, &[])).unwrap();
    steps(&mut state, "web", vec![Step::Complete]);
    let ended = service(&state, "web").rollout.clone();
    let reason = || "late".to_owned();
    let late = vec![
        Step::Pause { reason: reason() },
        Step::RollBack { back_to: revision(1), reason: reason() },
        Step::RolledBack,
        Step::Progressed { available: 7 },
    ];
    steps(&mut state, "web", late);
    assert_eq!(service(&state, "web").rollout, ended);
    assert_eq!(status(&state, "web", 1), RevisionStatus::Stable);
}

#[test]
fn a_plan_that_is_out_of_date_changes_nothing() {
    let mut state = State::default();
    state.register(1);
    state.apply_spec("web", spec(1, 2, &[])).unwrap();
    let seen = service(&state, "web").version;
    steps(&mut state, "web", vec![create(1, 1, 1), create(2, 2, 1)]);
    let before = state.clone();
    let stale = Err(Rejected::Stale { service: key("web") });
    assert_eq!(state.based_on("web", seen, vec![create(3, 1, 1)]), stale);
    assert_eq!(state.replicas().count(), before.replicas().count());

    // A placement is a write of the service too; one that came to nothing is not.
    let seen = service(&state, "web").version;
    state.put(9, 1).unwrap();
    state.put(1, 9).unwrap();
    assert_eq!(service(&state, "web").version, seen);
    state.put(1, 1).unwrap();
    assert_eq!(state.based_on("web", seen, vec![create(3, 1, 1)]), stale);
    assert_eq!(state.based_on("api", seen, Vec::new()), Err(Rejected::Stale { service: key("api") }));
}

#[test]
fn a_replica_is_placed_once_and_only_moves_towards_its_stop() {
    let mut state = State::default();
    state.register(1);
    state.register(2);
    state.apply_spec("web", spec(1, 1, &[])).unwrap();
    steps(&mut state, "web", vec![create(1, 1, 1), create(2, 2, 1)]);
    let changes = state.put(1, 1).unwrap().1;
    assert!(changes.nodes.contains(&NodeId(1)) && changes.services.contains(&key("web")));
    assert_eq!(state.put(1, 2).unwrap().1, store::Changes::default());
    let replica = state.replica(ReplicaId(1)).unwrap();
    assert_eq!((replica.node, replica.placed_at), (Some(NodeId(1)), Some(Timestamp(5))));

    let stop = |id| Step::Stop { id: ReplicaId(id), reason: StopReason::ScaledDown };
    steps(&mut state, "web", vec![stop(1), stop(2), Step::Start { id: ReplicaId(1) }]);
    let replica = state.replica(ReplicaId(1)).unwrap();
    assert_eq!((replica.desired, &replica.stop_reason), (Desired::Stopped, &Some(StopReason::ScaledDown)));
    assert_eq!(
        state.put(2, 2).unwrap().1,
        store::Changes::default(),
        "what is to stop is not placed any more"
    );
}

#[test]
fn ten_revisions_are_kept_and_those_still_needed() {
    let mut state = State::default();
    state.apply_spec("web", spec(1, 1, &[])).unwrap();
    steps(&mut state, "web", vec![Step::Complete, create(1, 1, 1)]);
    state.apply_spec("web", spec(2, 1, &[])).unwrap();
    steps(&mut state, "web", vec![Step::Complete]);
    for nonce in 3..=20 {
        state.apply_spec("web", spec(nonce, 1, &[])).unwrap();
    }
    // 1 still has a replica, 2 is the newest stable one.
    assert_eq!(numbers(&state, "web"), [1, 2, 13, 14, 15, 16, 17, 18, 19, 20]);
    steps(&mut state, "web", vec![Step::Forget { id: ReplicaId(1) }, Step::Complete]);
    state.apply_spec("web", spec(21, 1, &[])).unwrap();
    assert_eq!(numbers(&state, "web"), [2, 13, 14, 15, 16, 17, 18, 19, 20, 21]);
    assert_eq!(numbers(&state, "web").len(), Revision::KEPT);
}

#[test]
fn the_oldest_events_go_first() {
    let mut state = State::default();
    let event = |at| model::Event { at: Timestamp(at), service: None, kind: EventKind::Deleted };
    let many = (0..State::EVENTS_KEPT as u64 + 5).map(event).collect();
    state.say(Command::Record { events: many }).unwrap();
    assert_eq!(state.events().count(), State::EVENTS_KEPT);
    assert_eq!(state.events().next().unwrap().at, Timestamp(5));
}
