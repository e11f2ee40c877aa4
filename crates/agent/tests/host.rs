//! The whole agent on the real host: real namespaces, real packets, a server that is only played.
//!
//! Needs root, and busybox as a static program. Not under the usual test harness, because the runtime's launcher has to be
//! forked before the process has a second thread.

#![allow(clippy::unwrap_used, clippy::expect_used)] // Clippy's exemption of tests does not know a test that is a main.

mod host_support;

use std::{
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
    time::{Duration, Instant},
};

use host_support::{Stage, http_get, matches_now, running_pid};
use model::{Desired, Millis, Observed, Phase, ReplicaId, Settings};
use proto::v1::{self, open::Request, relay_frame::Frame};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// `cargo test` asks every test program for its list of tests, and may ask for some only.
fn main() -> ExitCode {
    if std::env::args().any(|arg| arg == "--list") {
        println!("the_agent_on_this_host: test");
        return ExitCode::SUCCESS;
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return ExitCode::SUCCESS;
    }
    if std::env::var_os(LAST_ACT).is_some() {
        return on_stage(a_dead_launcher_ends_the_agent);
    }
    let outcome = on_stage(everything);
    if outcome != ExitCode::SUCCESS {
        return outcome;
    }
    // A process has one launcher, and after that act it has none: the act gets a process of its own.
    let own = std::env::current_exe().unwrap();
    let last = std::process::Command::new(own).env(LAST_ACT, "1").status().unwrap();
    if last.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

const LAST_ACT: &str = "WHARF_TEST_LAST_ACT";

fn on_stage(act: fn(&Stage)) -> ExitCode {
    let stage = Stage::build();
    let result = panic::catch_unwind(AssertUnwindSafe(|| act(&stage)));
    drop(stage);
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn everything(stage: &Stage) {
    from_assignment_to_traffic(stage);
    logs_and_commands(stage);
    a_killed_container_is_started_again(stage);
    a_new_agent_adopts_what_runs(stage);
    a_lost_ledger_stops_nothing(stage);
    what_stops_with_the_lease_does_so_without_any_agent(stage);
    stopping_leaves_the_balancer_first(stage);
    sick_and_greedy_containers_are_explained(stage);
    what_the_node_lacks_is_not_held_against_replicas(stage);
    what_gives_the_node_away_is_refused(stage);
    many_at_once(stage);
    images_come_and_go(stage);
    nothing_is_left_behind(stage);
}

const WEB: ReplicaId = ReplicaId(1);

fn is_ready(observed: &Observed) -> bool {
    observed.phase == Phase::Running && observed.ready_since.is_some()
}

fn from_assignment_to_traffic(stage: &Stage) {
    stage.start_agent(false);
    let hello = stage.server.hello();
    assert_eq!(hello.node.name.as_str(), "alpha");
    assert!(hello.node.cpu.0 >= 1_000 && hello.node.memory.0 > 64 << 20, "{:?}", hello.node);
    assert_eq!(hello.observed, []);
    assert_eq!(hello.images.len(), 1);
    let began = Instant::now();
    stage.server.dispatch_full(vec![stage.web(WEB, Desired::Running)]);
    let ready = stage.server.wait_for("the replica is ready", WEB, is_ready);
    println!("from assignment to ready: {:?}", began.elapsed());
    assert!(
        ready.timeline.image_ready <= ready.timeline.started
            && ready.timeline.started <= ready.timeline.ready
    );
    // The balancer may be a moment behind the report.
    let answer = matches_now("the published port answers", || http_get(stage.port, "/etc/hostname").ok());
    assert_eq!(answer, "web-1\n");
    assert_eq!(http_get(stage.port, "/env").unwrap().trim(), "shop/web/1");
    // Root of the container is nobody of the host's.
    let ids = std::fs::read_to_string(format!("/proc/{}/uid_map", running_pid(&ready))).unwrap();
    let ids: Vec<u32> = ids.split_whitespace().map(|number| number.parse().unwrap()).collect();
    let own = ids[0] == 0 && ids[1] > agent::Config::FIRST_HOST_ID && ids[2] == 65_536;
    // As on an older kernel, where it is said instead.
    let without = std::env::var("WHARF_WITHOUT").unwrap_or_default();
    assert_eq!(own, without != "all" && !without.contains("mapped-layers"), "{ids:?}");
    let told = ready.message.is_some_and(|message| message.contains("without a user namespace"));
    assert_eq!(told, !own);
    // By its script; what is mounted over needs no place there.
    assert_eq!(stage.written_by_container(), ["tmp"]);
}

fn logs_and_commands(stage: &Stage) {
    let logs = v1::open::NodeLogs {
        replica: WEB.0,
        request: Some(v1::LogsRequest {
            namespace: "shop".into(),
            service: "web".into(),
            ..Default::default()
        }),
    };
    // The keeper writes what it reads a moment after the program has written it.
    let line = matches_now("the first line is logged", || {
        let frames = stage.server.relay(Request::Logs(logs.clone()), &[]);
        assert!(matches!(frames.last(), Some(Frame::End(_))), "{frames:?}");
        frames.into_iter().find_map(|frame| match frame {
            Frame::LogLine(line) => Some(line),
            _ => None,
        })
    });
    assert_eq!((&line.text[..], line.slot, &*line.container), (&b"web begins"[..], 1, "main"));

    let said = stage.server.exec(WEB, "tr a-z A-Z; echo gone >&2; exit 3", b"quiet words");
    assert_eq!(said.stdout, "QUIET WORDS");
    assert_eq!(said.stderr, "gone\n");
    assert_eq!(said.how, Some(v1::exec_output::exited::How::Code(3)));

    let refused = |replica, container: &str| {
        let mut request = stage.server.exec_request(replica, "true");
        request.start.as_mut().unwrap().container = Some(container.to_owned());
        match &stage.server.relay(Request::Exec(request), &[])[..] {
            [Frame::Error(error)] => error.message.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(WEB, "nope"), "shop/web.1 has no container nope, only main");
    let stranger = refused(ReplicaId(99), "main");
    assert_eq!(stranger, format!("replica {} is not on this node (any more)", ReplicaId(99)));
}

fn a_killed_container_is_started_again(stage: &Stage) {
    let before = stage.server.seen(WEB);
    let (pid, restarts) = (running_pid(&before), before.containers[0].restarts);
    let began = Instant::now();
    let process = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    let runs_again = |seen: &Observed| {
        matches!(seen.containers[0].state, model::ContainerState::Running { .. })
            && seen.containers[0].restarts == restarts + 1
    };
    stage.server.wait_for("it runs again", WEB, runs_again);
    println!("from kill to running: {:?}", began.elapsed());
    let exit = stage.server.wait_for_exit(WEB);
    assert_eq!(exit.exit.cause, model::ExitCause::Signal(9));
    stage.server.wait_for("it is ready again", WEB, is_ready);
}

fn a_new_agent_adopts_what_runs(stage: &Stage) {
    let before = stage.server.seen(WEB);
    stage.crash_agent();
    assert_eq!(http_get(stage.port, "/etc/hostname").unwrap(), "web-1\n", "nothing needs the agent");
    stage.start_agent(false);
    let hello = stage.server.hello();
    let after = hello.observed.iter().find(|seen| seen.replica == WEB).expect("the replica is known");
    assert_eq!(running_pid(after), running_pid(&before));
    assert_eq!(after.containers[0].restarts, before.containers[0].restarts);
    assert!(is_ready(after), "what was ready stays ready: {after:?}");

    // An exit while no agent runs is told by the next one, with how it was, to the first server that leads.
    stage.crash_agent();
    let pid = rustix::process::Pid::from_raw(running_pid(after) as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    stage.server.turn_away_one();
    stage.start_agent(false);
    stage.server.hello();
    stage.server.hello();
    stage.server.dispatch_full(vec![stage.web(WEB, Desired::Running)]);
    assert_eq!(stage.server.wait_for_exit(WEB).exit.cause, model::ExitCause::Signal(9));
    stage.server.wait_for("it is ready again", WEB, is_ready);
}

/// Neither one that is damaged nor one that is gone. What the server does not assign is a stranger all the same.
fn a_lost_ledger_stops_nothing(stage: &Stage) {
    let stranger = ReplicaId(3);
    for ruin in [Stage::damage_ledger, Stage::remove_ledger] {
        let web = || stage.web(WEB, Desired::Running);
        stage.server.dispatch_full(vec![web(), stage.sleeper(stranger, Desired::Running)]);
        let before = stage.server.wait_for("it is ready", WEB, is_ready);
        stage.server.wait_for("the stranger runs", stranger, is_ready);
        stage.crash_agent();
        ruin(stage);
        stage.start_agent(false);
        assert_eq!(stage.server.hello().observed, [], "nothing is remembered");
        assert_eq!(stage.container_replicas(), [WEB, stranger], "and nothing is touched");
        assert_eq!(http_get(stage.port, "/etc/hostname").unwrap(), "web-1\n");
        stage.server.dispatch_full(vec![web()]);
        let after = stage.server.wait_for("it is ready", WEB, is_ready);
        assert_eq!(running_pid(&after), running_pid(&before));
        assert_eq!(after.containers[0].restarts, before.containers[0].restarts);
        matches_now("the stranger is gone", || (stage.container_replicas() == [WEB]).then_some(()));
        // And it is remembered from now on.
        stage.crash_agent();
        stage.start_agent(false);
        let hello = stage.server.hello();
        assert_eq!(hello.observed.iter().map(running_pid).collect::<Vec<_>>(), [running_pid(&before)]);
    }
    assert_eq!(stage.damaged_ledgers(), 1, "the damaged one is kept");
}

/// By the agent while it lives, and by the keeper where it does not.
fn what_stops_with_the_lease_does_so_without_any_agent(stage: &Stage) {
    let (leased, steady) = (ReplicaId(40), ReplicaId(41));
    let all = || vec![stage.leased(leased), stage.sleeper(steady, Desired::Running)];
    let lease = Millis(1_500);
    let ends_within = Duration::from_millis((lease + Settings::LEASE_MARGIN).0);
    stage.server.dispatch_full(all());
    stage.server.wait_for("what needs no lease runs", steady, is_ready);
    let held = stage.server.wait_for("it is held back", leased, |seen| seen.message.is_some());
    assert!(held.message.is_some_and(|message| message.contains("held back")), "no lease was given yet");

    stage.server.give_lease(Some(lease));
    let first = running_pid(&stage.server.wait_for("it runs", leased, is_ready));
    stage.server.give_lease(None);
    let began = Instant::now();
    stage.server.wait_for("it has stopped", leased, |seen| seen.phase == Phase::Assigned);
    println!("a lease of {lease}: stopped {:?} after the last answer", began.elapsed());
    assert!(began.elapsed() < ends_within && !is_there(first), "{:?}", began.elapsed());
    assert!(is_ready(&stage.server.seen(steady)), "the other one goes on");

    stage.server.give_lease(Some(lease));
    let second = running_pid(&stage.server.wait_for("it runs again", leased, is_ready));
    stage.crash_agent();
    let began = Instant::now();
    matches_now("its keeper ends it", || (!is_there(second)).then_some(()));
    println!("a lease of {lease}: killed {:?} after the agent's death", began.elapsed());
    assert!(began.elapsed() < ends_within, "{:?}", began.elapsed());
    stage.start_agent(false);
    stage.server.hello();
    stage.server.dispatch_full(all());
    stage.server.wait_for("it is held back", leased, |seen| seen.phase == Phase::Assigned);
    assert!(is_ready(&stage.server.seen(steady)), "the other one went on");
    stage.server.give_lease(Some(lease));
    stage.server.wait_for("it runs once more", leased, is_ready);
    stage.server.dispatch_full(vec![stage.web(WEB, Desired::Running)]);
    for replica in [leased, steady] {
        stage.server.wait_for("it is removed", replica, |seen| seen.phase == Phase::Removed);
    }
    stage.server.wait_for("the web is ready again", WEB, is_ready);
    stage.server.give_lease(None);
}

fn is_there(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

fn stopping_leaves_the_balancer_first(stage: &Stage) {
    let second = ReplicaId(2);
    stage.server.dispatch_full(vec![stage.web(WEB, Desired::Running), stage.web(second, Desired::Running)]);
    stage.server.wait_for("the second is ready", second, is_ready);
    let steady = stage.steady_requests();
    steady.wait_for_more(20);
    stage.server.dispatch_full(vec![stage.web(WEB, Desired::Stopped), stage.web(second, Desired::Running)]);
    let removed = stage.server.wait_for("the first is removed", WEB, |seen| seen.phase == Phase::Removed);
    steady.wait_for_more(20);
    println!("requests before, while and after one of two replicas stopped: {} answered", steady.answered());
    assert_eq!(steady.end(), Vec::<String>::new());
    assert_eq!(removed.containers[0].last_exit.as_ref().map(|exit| exit.cause.is_success()), Some(false));
    stage.server.dispatch_full(vec![]);
    stage.server.wait_for("the second is removed", second, |seen| seen.phase == Phase::Removed);
}

fn sick_and_greedy_containers_are_explained(stage: &Stage) {
    let (sick, greedy) = (ReplicaId(10), ReplicaId(11));
    stage.server.dispatch_full(vec![stage.may_fall_sick(sick), stage.greedy(greedy)]);
    let failed = stage.server.wait_for("it fails", greedy, |seen| seen.phase == Phase::Failed);
    let exit = failed.containers[0].last_exit.clone().map(|exit| exit.cause);
    assert!(
        matches!(exit, Some(model::ExitCause::OutOfMemory { limit, .. }) if limit.0 == 32 << 20),
        "{exit:?}"
    );

    // Its startup and liveness probes run inside.
    stage.server.wait_for("it is ready", sick, is_ready);
    assert_eq!(
        stage.server.exec(sick, "echo > /tmp/sick", b"").how,
        Some(v1::exec_output::exited::How::Code(0))
    );
    let again = stage.server.wait_for("it was restarted", sick, |seen| seen.containers[0].restarts == 1);
    let exit = again.containers[0].last_exit.clone().map(|exit| exit.cause);
    let expected = model::ExitCause::ProbeFailed { probe: "liveness".into(), detail: "exit code 1".into() };
    assert_eq!(exit, Some(expected));
    // Each attempt has a root of its own: nothing of the sickness is left.
    stage.server.wait_for("it is ready again", sick, is_ready);

    let terminal = stage.server.exec_on_terminal(sick, "test -t 0 && test -t 1 && echo $TERM");
    assert_eq!(terminal.stdout.trim(), "xterm");
}

/// While it lives this process can open nothing. Also a test that fails must be able to clean up.
struct NoDescriptors(Rlimit);

impl NoDescriptors {
    fn begin() -> NoDescriptors {
        let plenty = getrlimit(Resource::Nofile);
        // Those of input and output are taken; with none at all not even poll(2) works.
        setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..plenty }).unwrap();
        NoDescriptors(plenty)
    }
}

impl Drop for NoDescriptors {
    fn drop(&mut self) {
        setrlimit(Resource::Nofile, self.0).unwrap();
    }
}

/// Nor does a probe that cannot be asked end what runs.
fn what_the_node_lacks_is_not_held_against_replicas(stage: &Stage) {
    let (steady, late) = (ReplicaId(12), ReplicaId(13));
    stage.server.dispatch_full(vec![stage.may_fall_sick(steady)]);
    let before = stage.server.wait_for("it is ready", steady, is_ready);
    let shortage = NoDescriptors::begin();
    stage.server.dispatch_full(vec![stage.may_fall_sick(steady), stage.sleeper(late, Desired::Running)]);
    let says = |seen: &Observed| {
        seen.message.as_deref().is_some_and(|message| message.contains("Too many open files"))
    };
    let troubled = stage.server.wait_for("a probe cannot be asked", steady, says);
    stage.server.wait_for("it cannot be prepared", late, says);
    drop(shortage);
    assert_eq!(troubled.ready_since, before.ready_since);
    let ready = stage.server.wait_for("it is ready", late, is_ready);
    let after = stage.server.wait_for("its probe is asked again", steady, |seen| !says(seen));
    assert_eq!((ready.containers[0].restarts, after.containers[0].restarts), (0, 0));
    assert_eq!((after.ready_since, running_pid(&after)), (before.ready_since, running_pid(&before)));
}

fn what_gives_the_node_away_is_refused(stage: &Stage) {
    for (path, replica) in stage.ways_to_own_folders().into_iter().zip((20..).map(ReplicaId)) {
        stage.server.dispatch_full(vec![stage.mounting(replica, &path)]);
        let failed = stage.server.wait_for("it is refused", replica, |seen| seen.phase == Phase::Failed);
        let message = failed.message.unwrap_or_default();
        assert!(message.contains("wharf's own") && message.contains(path.to_str().unwrap()), "{message}");
    }
    let harmless = ReplicaId(30);
    stage.server.dispatch_full(vec![stage.mounting(harmless, &stage.folder_of_a_user())]);
    stage.server.wait_for("it runs", harmless, is_ready);
    stage.server.dispatch_full(vec![]);
    stage.server.wait_for("it is removed", harmless, |seen| seen.phase == Phase::Removed);
}

fn many_at_once(stage: &Stage) {
    const MANY: u64 = 50;
    let all: Vec<_> = (100..100 + MANY).map(|id| stage.sleeper(ReplicaId(id), Desired::Running)).collect();
    let began = Instant::now();
    stage.server.dispatch_full(all);
    for id in 100..100 + MANY {
        stage.server.wait_for("it runs", ReplicaId(id), is_ready);
    }
    println!("{MANY} replicas, from assignment to ready: {:?}", began.elapsed());
    let began = Instant::now();
    stage.server.dispatch_full(vec![]);
    for id in 100..100 + MANY {
        stage.server.wait_for("it is removed", ReplicaId(id), |seen| seen.phase == Phase::Removed);
    }
    println!("{MANY} replicas, from dropped to removed: {:?}", began.elapsed());
}

fn images_come_and_go(stage: &Stage) {
    let listed = stage.server.relay(Request::ListImages(v1::open::ListImages {}), &[]);
    assert!(
        matches!(&listed[..], [Frame::Images(list), Frame::End(_)] if list.images.len() == 1),
        "{listed:?}"
    );
    let load = Request::LoadImage(v1::open::LoadImage { name: None });
    let garbage = [
        Frame::LoadChunk(bytes::Bytes::from_static(b"this is no archive")),
        Frame::LoadEnd(v1::relay_frame::LoadEnd {}),
    ];
    let refused = stage.server.relay(load, &garbage);
    assert!(matches!(&refused[..], [Frame::Error(_)]), "{refused:?}");
    let reference = host_support::IMAGE.to_owned();
    let removed = stage.server.relay(Request::RemoveImage(v1::open::RemoveImage { reference }), &[]);
    assert!(
        matches!(&removed[..], [Frame::Images(list), Frame::End(_)] if list.images.len() == 1),
        "{removed:?}"
    );
}

fn nothing_is_left_behind(stage: &Stage) {
    // Of an image that has no name any more, and is gone with its last replica: what is not here cannot be prepared.
    stage.server.dispatch_full(vec![stage.sleeper(ReplicaId(200), Desired::Running)]);
    let failed = stage.server.wait_for("it fails", ReplicaId(200), |seen| seen.phase == Phase::Failed);
    assert!(
        failed.message.as_deref().unwrap_or_default().contains("not on this node"),
        "{:?}",
        failed.message
    );
    stage.stop_agent();
    stage.import_image();
    stage.start_agent(true);
    stage.server.hello();
    stage.server.dispatch_full(vec![stage.web(ReplicaId(201), Desired::Running)]);
    stage.server.wait_for("it is ready", ReplicaId(201), is_ready);
    let began = Instant::now();
    stage.stop_agent();
    println!("stop on exit: {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(8), "it does not wait for what is not there");
    assert_eq!(stage.leftovers(), Vec::<String>::new());
}

fn a_dead_launcher_ends_the_agent(stage: &Stage) {
    const MANY: u64 = 20;
    stage.start_agent(false);
    stage.server.hello();
    let steady = ReplicaId(300);
    stage.server.dispatch_full(vec![stage.may_fall_sick(steady)]);
    let ready = stage.server.wait_for("it is ready", steady, is_ready);
    let all = (301..301 + MANY).map(|id| stage.sleeper(ReplicaId(id), Desired::Running));
    stage.server.dispatch_full(all.chain([stage.may_fall_sick(steady)]).collect());
    stage.server.wait_for("the first of many starts", ReplicaId(301), |seen| seen.phase == Phase::Running);
    let began = Instant::now();
    rustix::process::kill_process(host_support::launcher(), rustix::process::Signal::KILL).unwrap();
    let error = stage.agent_error();
    println!("from the launcher's death to the agent's end: {:?}", began.elapsed());
    assert!(matches!(error, agent::Error::LauncherEnded), "{error}");
    // Neither a start that was under way nor a probe that found no launcher is held against a replica.
    for id in (301..301 + MANY).map(ReplicaId) {
        let Some(seen) = stage.server.last_seen(id) else { continue };
        let blamed = seen.message.as_ref().is_some_and(|message| !message.contains("user namespace"));
        assert!(!blamed && seen.phase != Phase::Failed, "{seen:?}");
    }
    let after = stage.server.last_seen(steady).expect("it was ready");
    assert_eq!((&after.message, after.ready_since), (&ready.message, ready.ready_since));
    assert!(std::path::Path::new(&format!("/proc/{}", running_pid(&ready))).exists(), "containers go on");
    // And the names are not taken twice: each replica that was started has one container.
    let mut replicas = stage.container_replicas();
    let containers = replicas.len();
    replicas.dedup();
    assert_eq!(replicas.len(), containers);
}
