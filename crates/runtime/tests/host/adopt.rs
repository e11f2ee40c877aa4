//! The owner of a runtime is killed; whoever comes next finds everything.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use serde_json::{Value, json};

use runtime::{Config, Ending, LogTarget, Rootfs, Runtime, StartRequest, Status};

use crate::Test;
use crate::fixture::{Host, await_some, read_log, spec};

pub(crate) const TESTS: &[Test] = &[
    ("adopt::the_owner_is_killed", the_owner_is_killed),
    ("adopt::the_keeper_is_killed", the_keeper_is_killed),
    ("adopt::a_start_was_never_finished", a_start_was_never_finished),
    ("adopt::torn_files", torn_files),
    ("adopt::the_host_was_restarted", the_host_was_restarted),
];

/// Makes this binary an owner that starts two containers and waits to be killed.
const ORDER: &str = "WHARF_TEST_OWNER";

pub(crate) fn owner_order() -> Option<String> {
    std::env::var(ORDER).ok()
}

/// The order is the directory and the parent cgroup of the test's host.
pub(crate) fn run_owner(order: &str) -> ExitCode {
    let (dir, parent) = order.split_once(' ').unwrap();
    let dir = PathBuf::from(dir);
    let runtime =
        Runtime::fork(Config { state_dir: dir.join("state"), cgroup_parent: parent.to_owned() }).unwrap();
    let scripts = [
        ("stays", "echo one; while [ ! -e /volume/go ]; do sleep 0.01; done; echo two; exit 6"),
        ("ends", "while [ ! -e /volume/go ]; do sleep 0.01; done; echo done; exit 5"),
    ];
    for (id, script) in scripts {
        let scratch = dir.join("scratch").join(id);
        let (upper, work) = (scratch.join("upper"), scratch.join("work"));
        fs::create_dir_all(&upper).unwrap();
        fs::create_dir_all(&work).unwrap();
        let request = StartRequest {
            id: id.parse().unwrap(),
            spec: serde_json::from_value(spec_with_volume(&scratch, script)).unwrap(),
            rootfs: Rootfs::Overlay { lowers: vec![dir.join("rootfs")], upper, work },
            log: LogTarget { path: dir.join("logs").join(id), max_bytes: 1 << 20, max_files: 2 },
            deadline: None,
            init: true,
        };
        println!("pid {}", runtime.start(&request).unwrap().pid);
    }
    println!("ready");
    loop {
        std::thread::park();
    }
}

/// What is made in `scratch` shows up at `/volume`.
fn spec_with_volume(scratch: &Path, script: &str) -> Value {
    let mut spec = spec(&["/bin/sh", "-c", script]);
    let volume = json!({ "destination": "/volume", "source": scratch, "options": ["bind", "ro"] });
    spec["mounts"].as_array_mut().unwrap().push(volume);
    spec
}

fn owner(host: &Host) -> Child {
    let order = format!("{} {}", host.dir.path().display(), host.config.cgroup_parent);
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .env(ORDER, order)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let ready = lines.map_while(Result::ok).any(|line| line == "ready");
    assert!(ready, "the owner did not come up");
    owner
}

/// Children of a process, by their parent field in stat.
fn children(of: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parent = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    pids.filter(|pid| parent(*pid) == Some(of)).collect()
}

fn the_owner_is_killed(host: &Host) {
    let mut owner = owner(host);
    let launchers = children(owner.id());
    assert_eq!(launchers.len(), 1);
    owner.kill().unwrap();
    owner.wait().unwrap();
    await_some("the launcher to follow its owner", || {
        let gone = |pid: &u32| {
            fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
        };
        (!launchers.iter().any(gone)).then_some(())
    });
    let scratch = |id: &str| host.dir.path().join("scratch").join(id).join("go");
    // It ends while nobody is there.
    fs::write(scratch("ends"), "").unwrap();
    let ends = "ends".parse().unwrap();
    await_some("its end", || host.runtime.exit_record(&ends).unwrap());

    let found = host.runtime.list().unwrap();
    assert_eq!(found.iter().map(|container| container.id.as_str()).collect::<Vec<_>>(), ["ends", "stays"]);
    assert!(matches!(&found[0].status, Status::Exited(record) if record.ending == Ending::Code(5)));
    assert!(matches!(found[1].status, Status::Running { pid } if pid > 0));
    assert_eq!(found[1].log, host.dir.path().join("logs/stays"));
    assert!(host.runtime.watch(&ends).unwrap().wait(5000).unwrap(), "one that has ended is readable");

    let stays = "stays".parse().unwrap();
    let watch = host.runtime.watch(&stays).unwrap();
    assert!(!watch.wait(50).unwrap(), "it is still running");
    assert!(host.runtime.usage(&stays).unwrap().pids.unwrap() >= 2);
    fs::write(scratch("stays"), "").unwrap();
    assert_eq!(host.wait(&stays).ending, Ending::Code(6));
    // The output before, while and after nobody was there is all in the log.
    assert_eq!(read_log(&host.dir.path().join("logs/stays")), ["one", "two"]);
}

fn the_keeper_is_killed(host: &Host) {
    let request = host.request("trap '' TERM; sleep 1000 & wait");
    let started = host.start(&request);
    let watch = host.runtime.watch(&request.id).unwrap();
    Command::new("kill").args(["-KILL", &started.keeper_pid.to_string()]).status().unwrap();
    assert!(watch.wait(10_000).unwrap());
    await_some("the container to follow its keeper", || {
        host.runtime.processes(&request.id).unwrap().is_empty().then_some(())
    });
    let record = host.runtime.exit_record(&request.id).unwrap().unwrap();
    assert_eq!((record.ending, record.finished_ms), (Ending::Unknown, None));
    assert_eq!(host.runtime.find(&request.id).unwrap().unwrap().status, Status::Broken);
    host.runtime.delete(&request.id).unwrap();
}

fn a_start_was_never_finished(host: &Host) {
    let id = "half".parse().unwrap();
    fs::create_dir(host.config.state_dir.join("half")).unwrap();
    assert_eq!(host.runtime.find(&id).unwrap().unwrap().status, Status::Broken);
    host.runtime.delete(&id).unwrap();
    assert!(host.runtime.find(&id).unwrap().is_none());
}

/// What a crash of the host may leave of files that were just written; others are found all the same.
fn torn_files(host: &Host) {
    let other = host.request("sleep 1000");
    host.start(&other);
    let torn = host.config.state_dir.join("torn");
    fs::create_dir(&torn).unwrap();
    fs::write(torn.join("state"), "").unwrap();
    let ended = host.request("exit 3");
    host.start(&ended);
    host.wait(&ended.id);
    fs::write(host.config.state_dir.join(ended.id.as_str()).join("exit"), [0; 512]).unwrap();
    let found = host.runtime.list().unwrap();
    let status = |id: &str| &found.iter().find(|container| container.id.as_str() == id).unwrap().status;
    assert!(matches!(status(other.id.as_str()), Status::Running { .. }), "{found:?}");
    assert_eq!(status("torn"), &Status::Broken);
    assert!(
        matches!(status(ended.id.as_str()), Status::Exited(record) if record.ending == Ending::Unknown),
        "{found:?}"
    );
    host.runtime.delete(&ended.id).unwrap();
    host.runtime.delete(&"torn".parse().unwrap()).unwrap();
}

fn the_host_was_restarted(host: &Host) {
    let request = host.request("sleep 1000");
    let started = host.start(&request);
    let path: &Path = &host.config.state_dir.join(request.id.as_str()).join("state");
    let state = fs::read_to_string(path).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    fs::write(path, state.replace(boot.trim(), "another-boot")).unwrap();
    // The numbers in the file may belong to anybody by now, so nobody is hurt.
    assert_eq!(host.runtime.find(&request.id).unwrap().unwrap().status, Status::Broken);
    assert_eq!(host.runtime.exit_record(&request.id).unwrap().unwrap().ending, Ending::Unknown);
    assert!(Path::new(&format!("/proc/{}", started.pid)).exists(), "it was killed");
    fs::write(path, state).unwrap();
    host.runtime.kill(&request.id).unwrap();
    assert_eq!(host.wait(&request.id).ending, Ending::Signal(9));
}
