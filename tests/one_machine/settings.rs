//! A field that is accepted works: a service with everything set, and what its containers see of it.

use std::{fs, time::Duration};

use tests::{Cluster, leftovers, wait_for};

use crate::images::{busybox_layout, run};

fn load_busybox(cluster: &Cluster) {
    let layout = busybox_layout(cluster.folder());
    cluster.ok(&["image", "load", layout.trim_end_matches(":latest"), "--name", "box:1"]);
}

fn sh(cluster: &Cluster, script: &str) -> String {
    cluster.ok(&["exec", "box", "--", "/bin/sh", "-c", script]).trim().to_owned()
}

#[test]
fn every_field_of_a_container_takes_effect() {
    let cluster = Cluster::start();
    load_busybox(&cluster);
    let shared = cluster.folder().join("shared");
    fs::create_dir(&shared).expect("a folder");
    fs::write(shared.join("from-host"), "written on the host").expect("a file");
    let manifest = format!(
        "\
apiVersion: wharf/v1
kind: Service
metadata: {{name: box}}
spec:
  image: box:1
  command: [/bin/sh, -c]
  args: ['trap \"echo caught; exit 7\" USR1; echo started as $WHARF_SERVICE.$WHARF_SLOT; while :; do sleep 1; done']
  workingDir: /srv/here
  user: '1234:5678'
  env: {{GREETING: 'good morning'}}
  readOnlyRootfs: true
  mounts:
    - {{target: /scratch, tmpfs: {{size: 1Mi}}}}
    - {{target: /shared, hostPath: {{path: {shared}, readOnly: true}}}}
  capabilities: {{drop: [ALL], add: [NET_BIND_SERVICE]}}
  resources: {{memory: 32Mi, pids: 16, cpu: 500m}}
  stopSignal: SIGUSR1
  stopGrace: 20s
",
        shared = shared.display()
    );
    assert_eq!(cluster.apply("box", &manifest).code, 0);
    assert_eq!(sh(&cluster, "/bin/id -u; /bin/id -g"), "1234\n5678");
    assert_eq!(sh(&cluster, "pwd; echo $GREETING; echo $FROM_IMAGE"), "/srv/here\ngood morning\nyes");
    assert_eq!(sh(&cluster, "/bin/hostname"), "box-1");
    assert_eq!(sh(&cluster, "echo x >/file 2>/dev/null || echo refused"), "refused");
    assert_eq!(
        sh(&cluster, "cat /shared/from-host; echo x >/shared/new 2>/dev/null || echo ' refused'"),
        "written on the host refused"
    );
    let full = "busybox dd if=/dev/zero of=/scratch/big bs=64k count=64 2>/dev/null || echo full";
    assert_eq!(sh(&cluster, full), "full");
    let status = sh(&cluster, "cat /proc/self/status");
    assert!(status.contains("CapBnd:\t0000000000000400"), "{status}");
    let deleted = cluster.wharf(&["delete", "box"]);
    assert_eq!(deleted.code, 0, "{deleted:#?}");
    cluster.end();
}

#[test]
fn the_stop_signal_is_heard() {
    let cluster = Cluster::start();
    load_busybox(&cluster);
    let out = cluster.folder().join("out");
    fs::create_dir(&out).expect("a folder");
    let manifest = format!(
        "\
apiVersion: wharf/v1
kind: Service
metadata: {{name: box}}
spec:
  image: box:1
  command: [/bin/sh, -c, 'trap \"echo caught > /out/caught; exit 7\" USR1; echo ready; while :; do sleep 0.1; done']
  mounts: [{{target: /out, hostPath: {{path: {out}, readOnly: false}}}}]
  stopSignal: SIGUSR1
  stopGrace: 30s
",
        out = out.display()
    );
    assert_eq!(cluster.apply("box", &manifest).code, 0);
    wait_for("the trap to be set", Duration::from_secs(10), || {
        let logs = cluster.ok(&["logs", "box"]);
        if logs.contains("ready") { Ok(()) } else { Err(logs) }
    });
    let started = std::time::Instant::now();
    assert_eq!(cluster.wharf(&["delete", "box"]).code, 0);
    assert!(started.elapsed() < Duration::from_secs(20), "it was killed after its grace period instead");
    assert_eq!(fs::read_to_string(out.join("caught")).expect("what the trap wrote"), "caught\n");
    cluster.end();
}

#[test]
fn sidecars_share_the_network_and_init_containers_run_first() {
    let cluster = Cluster::start();
    load_busybox(&cluster);
    let manifest = "\
apiVersion: wharf/v1
kind: Service
metadata: {name: box}
spec:
  image: wharf.local/hello:1
  health: {readiness: {http: {port: 8080, path: /healthz}, interval: 100ms}}
  initContainers:
    - {name: first, image: box:1, command: [/bin/echo, 'I ran first']}
  sidecars:
    - name: beside
      image: box:1
      command: [/bin/sh, -c, 'busybox wget -q -O - http://127.0.0.1:8080/ || sleep 1; exec sleep 1000']
";
    let applied = cluster.apply("box", manifest);
    assert_eq!(applied.code, 0, "{applied:#?}");
    let logs = cluster.ok(&["logs", "box", "-c", "first"]);
    assert!(logs.contains("I ran first"), "{logs}");
    let shared = cluster.ok(&[
        "exec",
        "box",
        "-c",
        "beside",
        "--",
        "/bin/busybox",
        "wget",
        "-q",
        "-O",
        "-",
        "http://127.0.0.1:8080/",
    ]);
    assert!(shared.contains("hello from box-1"), "{shared}");
    cluster.end();
}

#[test]
fn a_fork_bomb_stays_inside_its_limit() {
    let cluster = Cluster::start();
    load_busybox(&cluster);
    let manifest = "\
apiVersion: wharf/v1
kind: Service
metadata: {name: box}
spec:
  image: box:1
  command: [/bin/busybox, awk, 'BEGIN { while (1) system(\"sleep 777777 &\") }']
  resources: {pids: 40, memory: 64Mi, cpu: 500m}
  stopGrace: 1s
";
    let path = cluster.folder().join("bomb.yaml");
    fs::write(&path, manifest).expect("the manifest");
    cluster.ok(&["apply", "-f", path.to_str().expect("UTF-8")]);
    let bombs = || leftovers::processes().iter().filter(|process| process.command.contains("777777")).count();
    // awk goes on when it cannot fork, unlike a shell: it comes to the limit, and stays there.
    wait_for("the bomb to come to its limit", Duration::from_secs(30), || match bombs() {
        35.. => Ok(()),
        fewer => Err(fewer),
    });
    for _ in 0..40 {
        let most = bombs();
        assert!((35..=40).contains(&most), "{most} processes");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(cluster.wharf(&["delete", "box"]).code, 0);
    assert_eq!(bombs(), 0);
    cluster.end();
}

#[test]
fn a_debian_made_by_debootstrap_runs() {
    let cluster = Cluster::start();
    let root = cluster.folder().join("debian");
    run("debootstrap", &["--variant=minbase", "bookworm", root.to_str().expect("UTF-8")]);
    let layout = cluster.folder().join("debian-layout");
    let layout = layout.to_str().expect("UTF-8");
    let image = format!("{layout}:latest");
    run("umoci", &["init", "--layout", layout]);
    run("umoci", &["new", "--image", &image]);
    run("umoci", &["insert", "--image", &image, root.to_str().expect("UTF-8"), "/"]);
    run("umoci", &["config", "--image", &image, "--config.cmd", "sleep", "--config.cmd", "1000"]);
    cluster.ok(&["image", "load", layout, "--name", "debian:test"]);
    let manifest = "\
apiVersion: wharf/v1
kind: Service
metadata: {name: box}
spec: {image: 'debian:test', stopGrace: 1s}
";
    let applied = cluster.apply("box", manifest);
    assert_eq!(applied.code, 0, "{applied:#?}");
    assert_eq!(
        sh(&cluster, "dpkg --version | head -1 | cut -c1-6; . /etc/os-release; echo $ID"),
        "Debian\ndebian"
    );
    cluster.end();
}
