//! Root in the container is nobody on the host, and still owns the image's files.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};

use oci_spec::runtime::Process;
use runtime::{Ending, ExecRequest, ExecStatus, ExecStdio, Rootfs, StartError, Trial};
use serde_json::{Value, json};

use crate::fixture::{Host, make_rootfs, spec};
use crate::{Test, kernels};

pub(crate) const TESTS: &[Test] = &[
    ("userns::root_inside_nobody_outside", root_inside_nobody_outside),
    ("userns::volumes_and_plain_roots", volumes_and_plain_roots),
    ("userns::exec", exec),
];

const BASE: u32 = 300_000;

/// Whether this kernel can give images to a user namespace; where it should, it must.
fn supported(host: &Host) -> bool {
    let outcome = host.runtime.attempt(&Trial::Layers { dir: host.dir.path().to_owned() });
    let expected = !kernels::without("mount-setattr") && !kernels::without("mapped-layers");
    assert_eq!(outcome.is_ok(), expected, "{outcome:?}");
    if let Err(error) = outcome {
        println!("not here: {error}");
        let started = host.runtime.start(&host.request_for(mapped(&["/bin/true"])));
        assert!(matches!(started, Err(StartError::Failed(_))), "{started:?}");
    }
    expected
}

fn mapped(args: &[&str]) -> Value {
    let mut spec = spec(args);
    spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    for field in ["uidMappings", "gidMappings"] {
        spec["linux"][field] = json!([{ "containerID": 0, "hostID": BASE, "size": 65536 }]);
    }
    spec
}

fn root_inside_nobody_outside(host: &Host) {
    if !supported(host) {
        return;
    }
    let script = "id -u; stat -c %u:%g /bin/busybox /; touch /made; stat -c %u /made; cat /proc/self/uid_map | tr -s ' '; \
                  echo x > /dev/null && echo null; head -c 2 /dev/urandom | wc -c; grep CapEff /proc/self/status; \
                  mount | grep -c . ; cat /proc/timer_list | wc -c; echo out > /dev/stdout; hostname; sleep 1000";
    let request = host.request_for(mapped(&["/bin/sh", "-c", script]));
    let started = host.start(&request);
    let owner = fs::metadata(format!("/proc/{}", started.pid)).map(|metadata| metadata.uid());
    let uid = |key: &str| {
        let status = fs::read_to_string(format!("/proc/{}/status", started.pid)).unwrap();
        status.lines().find_map(|line| line.strip_prefix(key).map(str::to_owned)).unwrap()
    };
    assert!(uid("Uid:\t").starts_with(&BASE.to_string()), "{owner:?}");
    let log = crate::fixture::await_some("the script", || {
        let log = crate::fixture::read_log(&request.log.path);
        log.iter().any(|line| line == "box").then_some(log)
    });
    let expected = ["0", "0:0", "0:0", "0", " 0 300000 65536", "null", "2", "CapEff:\t00000000000000e1"];
    assert_eq!(&log[..8], expected, "{log:?}");
    assert_eq!(&log[9..], ["0", "out", "box"], "{log:?}");
    // On the host, what the container made belongs to the image store's owner again: the mount maps it.
    let made = host.dir.path().join("scratch").join(request.id.as_str()).join("upper/made");
    assert_eq!(fs::metadata(made).unwrap().uid(), 0);
    host.runtime.kill(&request.id).unwrap();
    assert_eq!(host.finish(&request).0.ending, Ending::Signal(9));
}

fn volumes_and_plain_roots(host: &Host) {
    if !supported(host) {
        return;
    }
    let volume = host.dir.path().join("mapped-volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("file"), "content\n").unwrap();
    chown(volume.join("file"), Some(1000), Some(1000)).unwrap();
    let rootfs = host.dir.path().join("mapped-root");
    make_rootfs(&rootfs);
    let mut spec = mapped(&[
        "/bin/sh",
        "-c",
        "stat -c %u /data/file; cat /data/file; echo new > /data/new; touch /here; echo $?; \
         stat -c %u /plain/file; cat /plain/file; touch /plain/no 2> /dev/null || echo refused",
    ]);
    let mount = json!({ "destination": "/data", "source": volume, "options": ["rbind", "ridmap", "nosuid", "nodev"] });
    let plain = json!({ "destination": "/plain", "source": volume, "options": ["bind"] });
    spec["mounts"].as_array_mut().unwrap().extend([mount, plain]);
    let mut request = host.request_for(spec);
    request.rootfs = Rootfs::Dir(rootfs.clone());
    host.start(&request);
    assert_eq!(host.finish(&request).1, ["1000", "content", "0", "65534", "content", "refused"]);
    assert_eq!(fs::metadata(volume.join("new")).unwrap().uid(), 0);
    assert_eq!(fs::metadata(rootfs.join("here")).unwrap().uid(), 0);
}

fn exec(host: &Host) {
    if !supported(host) {
        return;
    }
    let request = host.request_for(mapped(&["/bin/sleep", "1000"]));
    host.start(&request);
    let process = json!({
        "user": { "uid": 0, "gid": 0 }, "cwd": "/", "env": ["PATH=/bin"],
        "args": ["/bin/sh", "-c", "id -u && grep -q 300000 /proc/self/uid_map && touch /x && tty"]
    });
    let process: Process = serde_json::from_value(process).unwrap();
    let stdio = ExecStdio::Tty(runtime::TerminalSize { rows: 10, columns: 10 });
    let mut exec = host.runtime.exec(&ExecRequest { id: request.id.clone(), process, stdio }).unwrap();
    assert_eq!(exec.status().unwrap(), ExecStatus::Code(0));
    let usage = host.runtime.usage(&request.id).unwrap();
    assert!(usage.memory_bytes.unwrap() > 0);
}
