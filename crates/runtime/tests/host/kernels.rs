//! What newer and older kernels do in different ways, and must do alike.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use runtime::{StartError, Trial};
use serde_json::json;

use crate::Test;
use crate::fixture::{Host, await_some, spec};

pub(crate) const TESTS: &[Test] = &[
    ("kernels::two_hundred_layers", two_hundred_layers),
    ("kernels::a_layer_that_is_not_there", a_layer_that_is_not_there),
    ("kernels::read_only_all_the_way_down", read_only_all_the_way_down),
    ("kernels::what_is_mounted_inside_stays_inside", what_is_mounted_inside_stays_inside),
    ("kernels::trials_tell_why_not", trials_tell_why_not),
    ("kernels::nothing_is_left_in_the_keeper", nothing_is_left_in_the_keeper),
];

pub(crate) const WITHOUT: &str = "WHARF_WITHOUT";

/// Layers one by one came with 6.7, as mounts without a path with 6.15.
pub(crate) const WHAT_6_1_LACKS: &str = "layers-by-name,layers-by-mount";

/// Whether the tests run without this feature.
pub(crate) fn without(feature: &str) -> bool {
    let without = std::env::var(WITHOUT).unwrap_or_default();
    without.split(',').any(|name| name == "all" || name == feature)
}

/// Each layer has a path as long as those of an image store, and together they are far longer than a page.
fn two_hundred_layers(host: &Host) {
    const LAYERS: usize = 200;
    let parent = host.dir.path().join("many").join("x".repeat(100)).join("y".repeat(100));
    let layer = |number: usize| -> PathBuf {
        let path = parent.join(format!("{number:064}"));
        fs::create_dir_all(path.join("layers")).unwrap();
        fs::write(path.join("top"), format!("{number}\n")).unwrap();
        fs::write(path.join("layers").join(number.to_string()), "").unwrap();
        path
    };
    let mut lowers: Vec<PathBuf> = (0..LAYERS - 1).map(layer).collect();
    lowers.push(host.rootfs());
    let mut request = host.request("cat /top; ls /layers | wc -l");
    request.rootfs = host.overlay(&request.id, lowers);
    host.start(&request);
    assert_eq!(host.finish(&request).1, ["0", "199"]);
}

fn a_layer_that_is_not_there(host: &Host) {
    let mut request = host.request("true");
    request.rootfs = host.overlay(&request.id, vec![host.dir.path().join("nowhere"), host.rootfs()]);
    let Err(StartError::Failed(failure)) = host.runtime.start(&request) else {
        panic!("it started");
    };
    assert!(failure.to_string().contains("No such file or directory"), "{failure}");
    assert!(host.runtime.find(&request.id).unwrap().is_none(), "what failed leaves nothing");
}

/// A directory with a filesystem mounted in it, which goes away again.
struct Nested(PathBuf);

impl Nested {
    fn new(host: &Host, name: &str) -> Nested {
        let dir = host.dir.path().join(name);
        fs::create_dir_all(dir.join("a b/inner")).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "nested"]).arg(dir.join("a b")).status().unwrap();
        assert!(mounted.success());
        Nested(dir)
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.join("a b")).status();
        assert!(std::thread::panicking() || unmounted.unwrap().success());
    }
}

fn read_only_all_the_way_down(host: &Host) {
    let volume = Nested::new(host, "nested-read-only");
    let script = "touch /data/x 2>&1 | grep -c Read-only; touch '/data/a b/x' 2>&1 | grep -c Read-only; \
                  grep -c '/data.* ro,nosuid,nodev' /proc/self/mounts";
    let mut spec = spec(&["/bin/sh", "-c", script]);
    let mount =
        json!({ "destination": "/data", "source": volume.0, "options": ["rbind", "ro", "nosuid", "nodev"] });
    spec["mounts"].as_array_mut().unwrap().push(mount);
    assert_eq!(host.run_spec(spec).1, ["1", "1", "2"]);
    fs::write(volume.0.join("a b/x"), "").expect("on the host it stays writable");
}

fn what_is_mounted_inside_stays_inside(host: &Host) {
    let volume = Nested::new(host, "nested-shared");
    let place = volume.0.join("a b");
    assert!(Command::new("mount").arg("--make-shared").arg(&place).status().unwrap().success());
    fs::create_dir(place.join("target")).unwrap();
    let mut spec = spec(&["/bin/sh", "-c", "grep -c '/data/target tmpfs' /proc/self/mounts; sleep 1000"]);
    spec["mounts"].as_array_mut().unwrap().extend([
        json!({ "destination": "/data", "source": place, "options": ["rbind"] }),
        json!({ "destination": "/data/target", "type": "tmpfs", "source": "tmpfs" }),
    ]);
    let request = host.request_for(spec);
    host.start(&request);
    let log = || crate::fixture::read_log(&request.log.path).into_iter().next();
    assert_eq!(await_some("the script", log), "1");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let inside = place.join("target").display().to_string().replace(' ', "\\040");
    assert!(!mounts.contains(&inside), "{mounts}");
}

fn trials_tell_why_not(host: &Host) {
    let source = host.dir.path().join("logs");
    let bind = host.runtime.attempt(&Trial::Bind { source: source.clone(), recursive: true });
    assert_eq!(bind.is_err(), without("mount-setattr"), "{bind:?}");
    // The kernel maps no owners of processes.
    let proc = host.runtime.attempt(&Trial::Bind { source: "/proc".into(), recursive: false });
    let Err(StartError::Failed(failure)) = proc else { panic!("{proc:?}") };
    assert!(failure.subject.contains("/proc"), "{failure}");
    let nowhere = host.runtime.attempt(&Trial::Layers { dir: "/nowhere".into() });
    assert!(matches!(nowhere, Err(StartError::Failed(_))), "{nowhere:?}");
    let left = fs::read_dir(&source).unwrap().count();
    host.runtime.attempt(&Trial::Layers { dir: source.clone() }).ok();
    assert_eq!(fs::read_dir(&source).unwrap().count(), left, "a trial leaves nothing");
}

/// What the launcher inherited from whoever started it is not passed on.
fn nothing_is_left_in_the_keeper(host: &Host) {
    let request = host.request("sleep 1000");
    let started = host.start(&request);
    let descriptors = |pid: i32| -> Vec<PathBuf> {
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        entries.filter_map(|entry| fs::read_link(entry.path()).ok()).collect()
    };
    let keeper = await_some("the keeper to be executed", || {
        let exe = fs::read_link(format!("/proc/{}/exe", started.keeper_pid)).unwrap();
        exe.to_string_lossy().contains("wharf-keeper").then(|| descriptors(started.keeper_pid))
    });
    // Standard streams, log, its directory, run directory, first process, two of output, report of init, memory.
    assert!(keeper.len() <= 11, "{keeper:?}");
    let inherited = rustix::io::fcntl_getfd(&host.inherited).unwrap();
    assert!(!inherited.contains(rustix::io::FdFlags::CLOEXEC), "the test is about one that is not closed");
    assert!(!keeper.contains(&host.dir.path().to_owned()), "{keeper:?}");
    let application = descriptors(started.pid);
    assert!(application.len() <= 5, "{application:?}");
}
