//! Limits hold, and what they did is known afterwards.

use std::time::Instant;

use runtime::{Ending, OomLook};
use serde_json::json;

use crate::Test;
use crate::fixture::{Host, await_some, spec};

pub(crate) const TESTS: &[Test] = &[
    ("limits::too_much_memory", too_much_memory),
    ("limits::a_kill_that_is_survived", a_kill_that_is_survived),
    ("limits::a_fork_bomb_stays_inside", a_fork_bomb_stays_inside),
    ("limits::processor_time", processor_time),
    ("limits::usage", usage),
];

fn too_much_memory(host: &Host) {
    let mut spec = spec(&["/bin/sh", "-c", "exec tail -c 100m /dev/zero"]);
    spec["linux"]["resources"]["memory"]["limit"] = json!(16 << 20);
    let (record, _) = host.run_spec(spec);
    assert_eq!(record.ending, Ending::Signal(9), "{record:?}");
    assert!(record.oom_killed && record.oom_kills >= 1, "{record:?}");
    assert_eq!(record.memory_limit_bytes, Some(16 << 20));
    let peak = record.memory_peak_bytes.unwrap();
    assert!((15 << 20..=16 << 20).contains(&peak), "peak {peak}");

    let (record, _) = host.run("true");
    assert_eq!((record.oom_killed, record.memory_limit_bytes), (false, Some(64 << 20)));
}

fn a_kill_that_is_survived(host: &Host) {
    let script = "for i in 1 2; do while [ ! -e /volume/go$i ]; do sleep 0.01; done; tail -c 100m /dev/zero; done; sleep 1000";
    let volume = host.dir.path().join("survived");
    std::fs::create_dir(&volume).unwrap();
    let mut spec = spec(&["/bin/sh", "-c", script]);
    let mount = json!({ "destination": "/volume", "source": volume, "options": ["bind", "ro"] });
    spec["mounts"].as_array_mut().unwrap().push(mount);
    spec["linux"]["resources"]["memory"]["limit"] = json!(16 << 20);
    let request = host.request_for(spec);
    host.start(&request);
    let mut watch = host.runtime.watch_oom(&request.id).unwrap().expect("memory is counted");
    assert_eq!(watch.look().unwrap(), OomLook::Quiet);
    assert!(!watch.wait(0).unwrap());
    for round in 1..=2 {
        std::fs::write(volume.join(format!("go{round}")), "").unwrap();
        assert!(watch.wait(10_000).unwrap(), "kill {round} wakes");
        let OomLook::Killed(kills) = watch.look().unwrap() else { panic!("kill {round} is not told") };
        assert_eq!((kills.count, kills.limit_bytes), (round, Some(16 << 20)));
        assert!(kills.peak_bytes.is_some_and(|peak| (15 << 20..=16 << 20).contains(&peak)), "{kills:?}");
        // One lack of memory may be announced more than once; none of it is told again.
        while watch.wait(0).unwrap() {
            assert_eq!(watch.look().unwrap(), OomLook::Quiet);
        }
    }
    // Whoever comes later learns of it without waiting.
    let mut later = host.runtime.watch_oom(&request.id).unwrap().unwrap();
    assert!(matches!(later.look().unwrap(), OomLook::Killed(kills) if kills.count == 2));
    assert!(host.runtime.exit_record(&request.id).unwrap().is_none(), "it goes on");
    host.runtime.kill(&request.id).unwrap();
    host.finish(&request);
    assert!(watch.wait(10_000).unwrap(), "deleting it wakes");
    assert_eq!(watch.look().unwrap(), OomLook::Gone);
}

fn a_fork_bomb_stays_inside(host: &Host) {
    let mut spec = spec(&["/bin/sh", "-c", "(while :; do sleep 1000 & done); exec sleep 1000"]);
    spec["linux"]["resources"]["pids"]["limit"] = json!(30);
    let request = host.request_for(spec);
    host.start(&request);
    await_some("the limit to be reached", || {
        (host.runtime.usage(&request.id).unwrap().pids >= Some(28)).then_some(())
    });
    assert!(host.runtime.usage(&request.id).unwrap().pids <= Some(30));
    let begun = Instant::now();
    host.runtime.kill(&request.id).unwrap();
    host.wait(&request.id);
    assert!(begun.elapsed().as_secs() < 5, "killing took {:?}", begun.elapsed());
    host.runtime.delete(&request.id).unwrap();
}

fn processor_time(host: &Host) {
    let mut spec = spec(&["/bin/sh", "-c", "while :; do :; done"]);
    spec["linux"]["resources"]["cpu"] = json!({ "quota": 10_000, "period": 100_000 });
    let request = host.request_for(spec);
    host.start(&request);
    let used = |_| host.runtime.usage(&request.id).unwrap().cpu_ns.unwrap();
    let (before, begun) = (used(()), Instant::now());
    await_some("200 ms of processor time", || (used(()) > before + 200_000_000).then_some(()));
    // A tenth of a processor takes two seconds for that.
    assert!(begun.elapsed().as_millis() > 1000, "200 ms of processor time after {:?}", begun.elapsed());
}

fn usage(host: &Host) {
    let request = host.request("sleep 1000 & sleep 1000 & wait");
    let started = host.start(&request);
    let usage = await_some("four processes", || {
        Some(host.runtime.usage(&request.id).unwrap()).filter(|usage| usage.pids == Some(4))
    });
    assert!(usage.memory_bytes.unwrap() > 50_000 && usage.cpu_ns.unwrap() > 0, "{usage:?}");
    assert_eq!(host.runtime.pid(&request.id).unwrap(), Some(started.pid));
}
