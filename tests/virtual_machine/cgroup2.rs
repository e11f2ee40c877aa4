//! What depends on cgroup v2: limits and what is told of them, devices, killing, cleaning up.

use std::time::Duration;

use tests::wait_for;

use crate::host::Host;

const SOON: Duration = Duration::from_secs(90);

/// A service of one container with busybox; `more` are further lines of the spec.
fn boxed(name: &str, script: &str, more: &str) -> String {
    format!(
        "\
apiVersion: wharf/v1
kind: Service
metadata: {{name: {name}}}
spec:
  image: box:1
  command: [/bin/sh, -c, '{script}']
  stopGrace: 1s
{more}"
    )
}

/// What was acknowledged was on the disk by then: the power goes at once.
#[test]
fn a_host_that_lost_its_power_runs_again_what_was_declared() {
    let host = Host::start("power-cut");
    let hello = boxed("quiet", "exec sleep 1000", "  resources: {memory: 32Mi}\n");
    host.load_box();
    let applied = host.apply(&hello, "--wait --timeout 2m");
    assert_eq!(applied.code, 0, "{applied:#?}");
    let changed = host.apply(&hello.replace("sleep 1000", "sleep 2000"), "");
    host.machine.kill();
    assert_eq!(changed.code, 0, "{changed:#?}");
    host.machine.boot();
    host.dev("");
    host.wait_for_dev("Ctrl-C stops everything");
    wait_for("the changed service to run", SOON, || {
        host.wait_ready("quiet", 1);
        let running = host.machine.ok("ps -o args | grep '^sleep'; true");
        if running.trim() == "sleep 2000" { Ok(()) } else { Err(running) }
    });
    host.end();
}

/// One host for all of them: most of the time goes into booting it.
#[test]
fn limits_hold_and_what_they_did_is_told() {
    let host = Host::start("limits");
    host.load_box();
    memory(&host);
    processes(&host);
    devices_and_strangers(&host);
    host.end();
}

fn memory(host: &Host) {
    let hog = boxed(
        "hog",
        "exec busybox dd if=/dev/zero of=/dev/null bs=200M count=1",
        "  resources: {memory: 32Mi}\n  update: {onFailure: continue, progressDeadline: 60s}\n",
    );
    assert_eq!(host.apply(&hog, "").code, 0);
    wait_for("an OOM kill to be told", SOON, || {
        let told = host.ok("describe hog");
        if told.contains("OOM killed (limit 32Mi, peak 32Mi)") { Ok(()) } else { Err(told) }
    });
    host.ok("delete hog");
}

fn processes(host: &Host) {
    // A shell ends when it may not fork: not the container's first one, and what it has forked stays.
    let bomb = boxed(
        "bomb",
        "(while :; do sleep 500 & done) & exec sleep 1000",
        "  resources: {pids: 30, memory: 64Mi, cpu: 300m}\n",
    );
    let applied = host.apply(&bomb, "--wait --timeout 2m");
    assert_eq!(applied.code, 0, "{applied:#?}");
    let [pid] = host.pids("bomb")[..] else { panic!("{:#?}", host.replicas("bomb")) };
    // The kernel counts what it refused: the limit was met, and it held.
    wait_for("the fork bomb to meet its limit", SOON, || {
        let events = host.limit(pid, "pids.events");
        let refused: u64 = events.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        if refused > 0 { Ok(()) } else { Err(events) }
    });
    assert_eq!(
        (host.limit(pid, "pids.max"), host.limit(pid, "pids.peak")),
        ("30".to_owned(), "30".to_owned())
    );
    assert_eq!(host.limit(pid, "cpu.max"), "30000 100000");
    host.ok("delete bomb");
    wait_for("the fork bomb to be gone", SOON, || {
        let left = host.machine.run("ps -o args | grep '[s]leep 500'");
        if left.code == 1 { Ok(()) } else { Err(left) }
    });
}

/// A process of the host that is put into a container's group has all rights, and no namespace: what stops it is the
/// group's device program, and what ends it with the container is cgroup.kill.
fn devices_and_strangers(host: &Host) {
    let quiet =
        boxed("quiet", "exec sleep 1000", "  capabilities: {add: [MKNOD]}\n  resources: {memory: 32Mi}\n");
    let applied = host.apply(&quiet, "--wait --timeout 2m");
    assert_eq!(applied.code, 0, "{applied:#?}");
    let [pid] = host.pids("quiet")[..] else { panic!("{:#?}", host.replicas("quiet")) };
    let group = host.group(pid);
    let inside = |script: &str| host.machine.run(&format!("echo 0 >{group}/cgroup.procs; {script}"));
    assert_eq!(host.machine.run("head -c 0 </dev/kmsg").code, 0, "the host's root may");
    let refused = inside("head -c 0 </dev/kmsg");
    assert!(refused.output.contains("Operation not permitted"), "{refused:?}");
    let allowed = inside("head -c 4 /dev/zero | wc -c; echo x >/dev/null");
    assert_eq!((allowed.code, allowed.output.as_str()), (0, "4\n"));
    // The container itself, with the capability to make devices: only those that it may use.
    host.ok("exec quiet -- /bin/mknod /null c 1 3");
    let refused = host.wharf("exec quiet -- /bin/mknod /kmsg c 1 11");
    assert!(refused.code != 0 && refused.output.contains("Operation not permitted"), "{refused:?}");

    let stranger = inside("setsid sleep 2000 >/dev/null 2>&1 & echo $!");
    let stranger = stranger.output.trim();
    host.machine.ok(&format!("grep -q . {group}/cgroup.procs && kill -0 {stranger}"));
    host.ok("delete quiet");
    wait_for("the stranger to be killed with the container", SOON, || {
        let left = host.machine.run(&format!("kill -0 {stranger}"));
        if left.code != 0 { Ok(()) } else { Err(left) }
    });
}
