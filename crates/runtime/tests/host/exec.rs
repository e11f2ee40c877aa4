//! Processes that are added to a running container.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use oci_spec::runtime::Process;
use runtime::{
    ContainerId, Exec, ExecRequest, ExecStatus, ExecStdio, StartError, StartRequest, TerminalSize,
};
use serde_json::{Value, json};

use crate::Test;
use crate::fixture::{Host, await_some};

pub(crate) const TESTS: &[Test] = &[
    ("exec::sees_what_the_container_sees", sees_what_the_container_sees),
    ("exec::never_has_more_rights", never_has_more_rights),
    ("exec::input_output_and_endings", input_output_and_endings),
    ("exec::terminal", terminal),
    ("exec::ends_with_its_handle_and_its_container", ends_with_its_handle_and_its_container),
    ("exec::not_before_the_application_runs", not_before_the_application_runs),
    ("exec::into_a_container_that_ends", into_a_container_that_ends),
    ("exec::errors", errors),
];

fn process(script: &str) -> Value {
    json!({ "user": { "uid": 0, "gid": 0 }, "args": ["/bin/sh", "-c", script], "env": ["PATH=/bin", "X=y"], "cwd": "/tmp" })
}

fn running(host: &Host) -> StartRequest {
    let request = host.request("sleep 1000");
    host.start(&request);
    request
}

fn request(id: &ContainerId, process: Value, stdio: ExecStdio) -> ExecRequest {
    ExecRequest { id: id.clone(), process: serde_json::from_value::<Process>(process).unwrap(), stdio }
}

fn pipe() -> (File, OwnedFd) {
    let (read, write) = std::io::pipe().unwrap();
    (File::from(OwnedFd::from(read)), write.into())
}

/// Runs a process without input to its end and gives its output.
fn run(host: &Host, id: &ContainerId, process: Value) -> (ExecStatus, String) {
    let (mut output, write) = pipe();
    let stdin = File::open("/dev/null").unwrap().into();
    let stdio = ExecStdio::Fds { stdin, stdout: write.try_clone().unwrap(), stderr: write };
    let request = request(id, process, stdio);
    let mut exec = host.runtime.exec(&request).unwrap_or_else(|error| panic!("exec: {error}"));
    drop(request);
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    (exec.status().unwrap(), text)
}

fn sees_what_the_container_sees(host: &Host) {
    let container = running(host);
    let script = "hostname; pwd; echo $X; cat /proc/1/comm; cat /proc/self/cgroup; for n in mnt pid net ipc uts cgroup; do \
                  [ $(readlink /proc/self/ns/$n) = $(readlink /proc/2/ns/$n) ] || echo differs in $n; done";
    let (status, text) = run(host, &container.id, process(script));
    assert_eq!(status, ExecStatus::Code(0), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(&lines[..4], ["box", "/tmp", "y", "wharf-init"]);
    assert!(!text.contains("differs"), "{text}");
    for controller in ["memory", "pids", "devices", "::"] {
        let line = lines.iter().find(|line| line.contains(controller)).unwrap();
        assert!(line.ends_with(":/"), "{line}");
    }
}

fn never_has_more_rights(host: &Host) {
    let container = running(host);
    let mut asks = process(
        "grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status; ulimit -n; ls /proc/self/fd; ls -l /proc/*/exe",
    );
    let all = json!(["CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_MKNOD"]);
    asks["capabilities"] = json!({ "bounding": all, "effective": all, "permitted": all });
    let (_, text) = run(host, &container.id, asks);
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t0000000000000001",
        "CapEff:\t0000000000000001",
        "CapBnd:\t0000000000000001",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "1024",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    assert!(!text.contains("host-") && !text.contains("memfd"), "{text}");
    let (_, text) = run(host, &container.id, process("grep CapEff /proc/self/status"));
    assert_eq!(text, "CapEff:\t00000000000000e1\n");
}

fn input_output_and_endings(host: &Host) {
    let container = running(host);
    let cases = [("exit 3", ExecStatus::Code(3)), ("kill -KILL $$", ExecStatus::Signal(9))];
    for (script, expected) in cases {
        assert_eq!(run(host, &container.id, process(script)).0, expected, "{script}");
    }
    let (stdin, mut input) = std::io::pipe().unwrap();
    let ((mut output, stdout), (mut errors, stderr)) = (pipe(), pipe());
    let request = request(
        &container.id,
        process("cat; echo oh >&2"),
        ExecStdio::Fds { stdin: stdin.into(), stdout, stderr },
    );
    let mut exec = host.runtime.exec(&request).unwrap();
    drop(request);
    let big = vec![b'x'; 1 << 20];
    let writer = std::thread::spawn(move || input.write_all(&big).unwrap());
    let (mut out, mut err) = (Vec::new(), String::new());
    output.read_to_end(&mut out).unwrap();
    errors.read_to_string(&mut err).unwrap();
    writer.join().unwrap();
    assert_eq!((out.len(), err.as_str()), (1 << 20, "oh\n"));
    assert_eq!(exec.status().unwrap(), ExecStatus::Code(0));
    assert_eq!(exec.status().unwrap(), ExecStatus::Code(0), "asked again");
}

fn terminal(host: &Host) {
    let container = running(host);
    let stdio = ExecStdio::Tty(TerminalSize { rows: 20, columns: 70 });
    let mut exec = host
        .runtime
        .exec(&request(&container.id, process("tty; stty size; read x; stty size; echo got $x"), stdio))
        .unwrap();
    let mut tty = File::from(exec.tty.as_ref().unwrap().try_clone().unwrap());
    let mut text = String::new();
    let mut read_until = |end: &str| {
        let mut buffer = [0; 1024];
        while !text.contains(end) {
            let got = tty.read(&mut buffer).unwrap_or_else(|error| panic!("{error} after {text:?}"));
            text.push_str(&String::from_utf8_lossy(&buffer[..got]));
        }
        text.clone()
    };
    assert_eq!(read_until("70\r\n"), "/dev/pts/0\r\n20 70\r\n");
    exec.resize(TerminalSize { rows: 30, columns: 90 }).unwrap();
    let mut typing = File::from(exec.tty.as_ref().unwrap().try_clone().unwrap());
    typing.write_all(b"word\n").unwrap();
    assert!(read_until("got word").contains("30 90"));
    assert_eq!(exec.status().unwrap(), ExecStatus::Code(0));
}

fn gone(pid: i32) -> Option<()> {
    (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(())
}

fn sleeper(host: &Host, id: &ContainerId) -> Exec {
    let null = || OwnedFd::from(File::options().read(true).write(true).open("/dev/null").unwrap());
    let stdio = ExecStdio::Fds { stdin: null(), stdout: null(), stderr: null() };
    host.runtime.exec(&request(id, process("exec sleep 1000"), stdio)).unwrap()
}

fn ends_with_its_handle_and_its_container(host: &Host) {
    let container = running(host);
    let exec = sleeper(host, &container.id);
    let pid = exec.pid;
    assert!(host.runtime.processes(&container.id).unwrap().contains(&pid));
    drop(exec);
    await_some("the process to be gone", || gone(pid));

    let mut exec = sleeper(host, &container.id);
    exec.kill().unwrap();
    assert_eq!(exec.status().unwrap(), ExecStatus::Signal(9));
    exec.kill().unwrap();

    let mut exec = sleeper(host, &container.id);
    host.runtime.kill(&container.id).unwrap();
    assert_eq!(exec.status().unwrap(), ExecStatus::Signal(9));
    host.wait(&container.id);
}

/// A start is held half-way: its group is frozen before anything is in it.
fn not_before_the_application_runs(host: &Host) {
    let container = &host.request("sleep 1000");
    let group = std::path::Path::new("/sys/fs/cgroup/unified").join(&host.config.cgroup_parent);
    let group = group.join(container.id.as_str());
    fs::create_dir_all(&group).unwrap();
    let freeze = |value: &str| fs::write(group.join("cgroup.freeze"), value).unwrap();
    freeze("1");
    std::thread::scope(|scope| {
        let starting = scope.spawn(|| host.start(container));
        await_some("the first process", || host.runtime.pid(&container.id).ok().flatten());
        let (told, outcome) = std::sync::mpsc::channel();
        scope.spawn(move || told.send(attempt(host, &container.id, process("true"))));
        let outcome = outcome.recv_timeout(Duration::from_secs(5));
        freeze("0");
        starting.join().unwrap();
        assert!(matches!(outcome, Ok(Err(StartError::NotRunning(_)))), "{outcome:?}");
    });
    assert_eq!(run(host, &container.id, process("hostname")).1, "box\n");
}

fn into_a_container_that_ends(host: &Host) {
    for round in 0..20 {
        let container = running(host);
        std::thread::scope(|scope| {
            let execs = scope.spawn(|| {
                loop {
                    match attempt(host, &container.id, process("true")) {
                        Ok(()) => {}
                        Err(StartError::NotRunning(_)) => return,
                        Err(error) => panic!("round {round}: {error}"),
                    }
                }
            });
            std::thread::sleep(Duration::from_millis(round));
            host.runtime.kill(&container.id).unwrap();
            execs.join().unwrap();
        });
        host.wait(&container.id);
    }
}

fn attempt(host: &Host, id: &ContainerId, process: Value) -> Result<(), StartError> {
    let null = || OwnedFd::from(File::options().read(true).write(true).open("/dev/null").unwrap());
    let stdio = ExecStdio::Fds { stdin: null(), stdout: null(), stderr: null() };
    host.runtime.exec(&request(id, process, stdio)).map(drop)
}

fn errors(host: &Host) {
    let container = running(host);
    let attempt = |change: Value| {
        let mut asked = process("true");
        for (key, value) in change.as_object().unwrap() {
            asked[key] = value.clone();
        }
        let stdio = ExecStdio::Tty(TerminalSize { rows: 1, columns: 1 });
        host.runtime.exec(&request(&container.id, asked, stdio)).map(drop)
    };
    let text = |change| attempt(change).unwrap_err().to_string();
    assert_eq!(text(json!({ "args": ["/no"] })), "exec /no: No such file or directory in the image");
    assert_eq!(text(json!({ "cwd": "/no" })), "working directory /no: No such file or directory");
    host.runtime.kill(&container.id).unwrap();
    host.wait(&container.id);
    assert!(matches!(attempt(json!({})), Err(StartError::NotRunning(_))));
}
