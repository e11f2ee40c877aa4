//! Images and containers that try to reach the host.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::json;

use crate::Test;
use crate::fixture::{Host, make_rootfs, spec};

pub(crate) const TESTS: &[Test] = &[
    ("hostile::places_that_lead_out", places_that_lead_out),
    ("hostile::working_directories", working_directories),
    ("hostile::the_executable", the_executable),
    ("hostile::an_image_without_anything", an_image_without_anything),
];

/// An image of its own, changed by the test.
fn image(host: &Host, name: &str) -> PathBuf {
    let path = host.dir.path().join(name);
    make_rootfs(&path);
    path
}

fn places_that_lead_out(host: &Host) {
    let outside = host.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("hosts"), "untouched\n").unwrap();
    let rootfs = image(host, "leads-out");
    let up = "../".repeat(20);
    for name in ["dev", "proc", "sys"] {
        fs::remove_dir(rootfs.join(name)).unwrap();
        symlink(format!("{up}{}", outside.strip_prefix("/").unwrap().display()), rootfs.join(name)).unwrap();
    }
    symlink(outside.join("hosts"), rootfs.join("etc/hosts")).unwrap();
    symlink("/proc/1/root", rootfs.join("data")).unwrap();
    // Inside the root the same names exist, so everything has a place to go.
    fs::create_dir_all(rootfs.join(outside.strip_prefix("/").unwrap())).unwrap();
    let mut changed = spec(&["/bin/sh", "-c", "cat /etc/hosts; echo x > /etc/hosts; ls -d /proc/1"]);
    let hosts = host.dir.path().join("hosts-file");
    fs::write(&hosts, "mounted\n").unwrap();
    let mounts = changed["mounts"].as_array_mut().unwrap();
    mounts.push(json!({ "destination": "/etc/hosts", "source": hosts, "options": ["bind"] }));
    let mut request = host.request_for(changed.clone());
    request.rootfs = host.overlay(&request.id, vec![rootfs.clone()]);
    // Whether it starts is up to how the places end up; that nothing outside changes is what counts.
    if host.runtime.start(&request).is_ok() {
        host.finish(&request);
    }
    assert_eq!(fs::read_to_string(outside.join("hosts")).unwrap(), "untouched\n");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "something was made outside");

    // A target behind a magic link is refused by name.
    changed["mounts"] = json!([
        { "destination": "/proc", "type": "proc" }, { "destination": "/data/etc", "type": "tmpfs" }
    ]);
    let mut request = host.request_for(changed);
    fs::remove_file(rootfs.join("proc")).unwrap();
    fs::create_dir(rootfs.join("proc")).unwrap();
    request.rootfs = host.overlay(&request.id, vec![rootfs]);
    let error = host.runtime.start(&request).unwrap_err().to_string();
    assert_eq!(error, "mount /data/etc: Too many levels of symbolic links");
}

fn working_directories(host: &Host) {
    let rootfs = image(host, "cwd");
    symlink("/proc/self/fd/7", rootfs.join("link")).unwrap();
    symlink("../../../../../../../tmp", rootfs.join("up")).unwrap();
    for (cwd, expected) in [
        ("/up", Some("/tmp")),
        ("/link", None),
        ("/proc/self/fd/8/../../..", None),
        ("/new/dir", Some("/new/dir")),
    ] {
        let mut changed = spec(&["/bin/pwd", "-P"]);
        changed["process"]["cwd"] = json!(cwd);
        let mut request = host.request_for(changed);
        request.rootfs = host.overlay(&request.id, vec![rootfs.clone()]);
        match (host.runtime.start(&request), expected) {
            (Ok(_), Some(expected)) => assert_eq!(host.finish(&request).1, [expected], "{cwd}"),
            (Err(error), None) => {
                assert!(error.to_string().starts_with("working directory"), "{cwd}: {error}")
            }
            (outcome, _) => panic!("{cwd}: {outcome:?}"),
        }
    }
}

fn the_executable(host: &Host) {
    let rootfs = image(host, "self");
    // An interpreter that is whoever executes the script: it must be the sealed program, which does nothing with it.
    fs::write(rootfs.join("bin/evil"), "#!/proc/self/exe\n").unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(rootfs.join("bin/evil"), fs::Permissions::from_mode(0o755)).unwrap();
    for init in [true, false] {
        let mut request = host.request_for(spec(&["/bin/evil"]));
        request.init = init;
        request.rootfs = host.overlay(&request.id, vec![rootfs.clone()]);
        host.start(&request);
        let (record, log) = host.finish(&request);
        // 64 is what the sealed program says to a name that is none of its own.
        assert_eq!(record.ending, runtime::Ending::Code(64), "init {init}: {log:?}");
    }
}

fn an_image_without_anything(host: &Host) {
    let rootfs = host.dir.path().join("bare");
    fs::create_dir_all(rootfs.join("x")).unwrap();
    fs::copy("/bin/busybox", rootfs.join("x/sh")).unwrap();
    let mut request = host.request_for(spec(&["/x/sh", "-c", "echo fine"]));
    request.rootfs = host.overlay(&request.id, vec![rootfs]);
    host.start(&request);
    assert_eq!(host.finish(&request).1, ["fine"]);
}
