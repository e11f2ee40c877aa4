//! How containers end, and what is known about it afterwards.

use std::time::{Duration, Instant};

use runtime::{Ending, Error, StartRequest, Status};
use serde_json::json;

use crate::Test;
use crate::fixture::{Host, await_some, read_log, spec};

pub(crate) const TESTS: &[Test] = &[
    ("exits::codes_and_signals", codes_and_signals),
    ("exits::sigterm_ends_a_program_under_init", sigterm_ends_a_program_under_init),
    ("exits::signals_are_passed_on", signals_are_passed_on),
    ("exits::zombies_are_reaped", zombies_are_reaped),
    ("exits::kill_ends_everything", kill_ends_everything),
    ("exits::a_deadline_ends_it_unless_it_is_put_off", a_deadline_ends_it_unless_it_is_put_off),
    ("exits::a_deadline_that_has_passed", a_deadline_that_has_passed),
    ("exits::nothing_is_left", nothing_is_left),
    ("exits::many_at_once", many_at_once),
];

fn codes_and_signals(host: &Host) {
    let cases = [
        ("exit 0", Ending::Code(0)),
        ("exit 7", Ending::Code(7)),
        ("exit 255", Ending::Code(255)),
        ("kill -TERM $$", Ending::Signal(15)),
        ("kill -SEGV $$", Ending::Signal(11)),
        ("kill -KILL $$", Ending::Signal(9)),
    ];
    for (script, expected) in cases {
        let (record, _) = host.run(script);
        assert_eq!(record.ending, expected, "{script}");
        assert!(!record.oom_killed && record.dropped_log_entries == 0);
        let (started, finished) = (record.started_ms, record.finished_ms.unwrap());
        assert!(started <= finished && finished - started < 20_000, "{started} to {finished}");
    }
    // Without init the shell is PID 1 itself, and a signal of its own making cannot end it.
    for (script, expected) in
        [("exit 3", Ending::Code(3)), ("kill -TERM $$; kill -KILL $$; exit 4", Ending::Code(4))]
    {
        let request = StartRequest { init: false, ..host.request(script) };
        host.start(&request);
        assert_eq!(host.finish(&request).0.ending, expected, "{script} as PID 1");
    }
}

fn sleeping(host: &Host, init: bool) -> StartRequest {
    let request = StartRequest { init, ..host.request_for(spec(&["/bin/sleep", "1000"])) };
    host.start(&request);
    request
}

fn boottime_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// A program that heeds no signal, and the file with its deadline.
fn with_deadline(host: &Host, at_ms: u64) -> (StartRequest, std::fs::File) {
    let script = "trap '' TERM; echo ready; while :; do sleep 0.02; done";
    let mut request = host.request(script);
    let path = host.rootfs().join(format!("../deadline-{}", request.id.as_str()));
    std::fs::write(&path, at_ms.to_le_bytes()).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    request.deadline = Some(path);
    host.start(&request);
    (request, file)
}

fn a_deadline_ends_it_unless_it_is_put_off(host: &Host) {
    use std::os::unix::fs::FileExt;
    let first = boottime_ms() + 600;
    let (request, file) = with_deadline(host, first);
    let watch = host.runtime.watch(&request.id).unwrap();
    let last = first + 1_200;
    file.write_all_at(&last.to_le_bytes(), 0).unwrap();
    assert!(!watch.wait((last - 300 - boottime_ms()) as u32 as _).unwrap(), "it was put off");
    assert_eq!(host.finish(&request).0.ending, Ending::Signal(9));
    let now = boottime_ms();
    assert!((last..last + 2_000).contains(&now), "it was to end at {last}, and ended at {now}");
}

fn a_deadline_that_has_passed(host: &Host) {
    let (request, _file) = with_deadline(host, boottime_ms() - 1);
    assert_eq!(host.finish(&request).0.ending, Ending::Signal(9));
}

fn sigterm_ends_a_program_under_init(host: &Host) {
    let request = sleeping(host, true);
    host.runtime.signal(&request.id, 15).unwrap();
    assert_eq!(host.finish(&request).0.ending, Ending::Signal(15));

    // A program that never thought of being PID 1 does not hear it; killing works all the same.
    let request = sleeping(host, false);
    host.runtime.signal(&request.id, 15).unwrap();
    let watch = host.runtime.watch(&request.id).unwrap();
    assert!(!watch.wait(200).unwrap());
    host.runtime.kill(&request.id).unwrap();
    assert_eq!(host.finish(&request).0.ending, Ending::Signal(9));
}

fn signals_are_passed_on(host: &Host) {
    let script =
        "trap 'echo hup' HUP; trap 'echo usr1; exit 5' USR1; echo ready; while :; do sleep 0.02; done";
    let request = host.request(script);
    host.start(&request);
    let log = |line: &str| read_log(&request.log.path).iter().any(|found| found == line).then_some(());
    await_some("ready", || log("ready"));
    host.runtime.signal(&request.id, 1).unwrap();
    await_some("hup", || log("hup"));
    host.runtime.signal(&request.id, 10).unwrap();
    assert_eq!(host.finish(&request).0.ending, Ending::Code(5));
}

fn zombies_are_reaped(host: &Host) {
    // Each inner shell ends at once and leaves its child to PID 1.
    let script = "for i in 1 2 3 4 5 6 7 8 9; do sh -c 'sleep 0.05 &'; done; sleep 0.5; cat /proc/[0-9]*/stat | grep -c ' Z '";
    assert_eq!(host.run(script).1, ["0"]);
}

fn kill_ends_everything(host: &Host) {
    let request =
        host.request("trap '' TERM INT; for i in 1 2 3 4 5; do sleep 1000 & done; echo ready; wait");
    host.start(&request);
    await_some("six processes and init", || {
        (host.runtime.processes(&request.id).unwrap().len() == 7).then_some(())
    });
    let pids = host.runtime.processes(&request.id).unwrap();
    host.runtime.kill(&request.id).unwrap();
    host.wait(&request.id);
    for pid in pids {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "{pid} is alive");
    }
    host.runtime.kill(&request.id).unwrap();
    assert!(matches!(host.runtime.signal(&request.id, 15), Err(Error::NotRunning(_))));
}

fn nothing_is_left(host: &Host) {
    let request = sleeping(host, true);
    assert!(matches!(host.runtime.delete(&request.id), Err(Error::Running(_))));
    assert_eq!(host.runtime.list().unwrap().len(), 1);
    host.runtime.kill(&request.id).unwrap();
    host.wait(&request.id);
    let found = host.runtime.find(&request.id).unwrap().unwrap();
    assert!(matches!(found.status, Status::Exited(_)));
    host.runtime.delete(&request.id).unwrap();
    host.runtime.delete(&request.id).unwrap();
    assert!(host.runtime.find(&request.id).unwrap().is_none());
    assert!(matches!(host.runtime.usage(&request.id), Err(Error::Unknown(_))));
    for controller in ["memory", "pids", "devices", "unified"] {
        let group = format!("/sys/fs/cgroup/{controller}/{}/{}", host.config.cgroup_parent, request.id);
        assert!(!std::path::Path::new(&group).exists(), "{group} is left");
    }
    // The launcher reaps keepers, also when nobody asks.
    let zombies = || {
        let stat =
            |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let all = std::fs::read_dir("/proc").unwrap().flatten().map(stat);
        all.filter(|stat| {
            stat.contains("(wharf-keeper) Z") && stat.contains(&format!(" {} ", std::process::id()))
        })
        .count()
    };
    await_some("no zombies", || (zombies() == 0).then_some(()));
}

fn many_at_once(host: &Host) {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for worker in 0..8 {
            scope.spawn(move || {
                for round in 0..5 {
                    let (record, log) = host.run(&format!("echo {worker}-{round}; exit {worker}"));
                    assert_eq!(record.ending, Ending::Code(worker));
                    assert_eq!(log, [format!("{worker}-{round}")]);
                }
            });
        }
    });
    assert!(begun.elapsed() < Duration::from_secs(60));
    let mut stopped = spec(&["/bin/true"]);
    stopped["process"]["env"] = json!(["A=b"]);
    assert_eq!(host.run_spec(stopped).0.ending, Ending::Code(0));
}
