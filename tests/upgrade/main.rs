//! The previous build and this one in one cluster: upgraded server by server and agent by agent while it is used.
//!
//! Which build that is, and how the tests come by it, `tests/previous` says.

mod rolling;
mod runbook;
mod state;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use tests::{Several, busybox::busybox_archive, cluster::Ended, wait_for};

const SOON: Duration = Duration::from_secs(60);

/// The program of the build before this one.
fn previous() -> PathBuf {
    let told = std::env::var_os("WHARF_PREVIOUS_BIN").map(PathBuf::from);
    let path = told.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/previous/wharf"));
    assert!(
        path.exists(),
        "the previous build is not at {}: `tests/previous` makes it, where the history of the repository is there",
        path.display()
    );
    path
}

/// Brings the image `box:1` to every node there is.
fn load_image(several: &Several) {
    let path = several.folder().join("box.tar");
    std::fs::write(&path, busybox_archive()).expect("the archive is written");
    several.ok(&["image", "load", &path.display().to_string()]);
}

/// A service that answers with its own version.
struct Service {
    name: &'static str,
    /// The nodes with this label `home`; none for all.
    home: Option<&'static str>,
    replicas: u32,
    version: u32,
    /// On every node.
    publish: Option<u16>,
}

impl Service {
    fn at_home(name: &'static str) -> Service {
        Service { name, home: Some(name), replicas: 2, version: 1, publish: None }
    }

    fn manifest(&self) -> String {
        let publish = self.publish.map(|port| format!(", publish: {port}")).unwrap_or_default();
        let home = self.home.map(|home| format!("home: {home}")).unwrap_or_default();
        format!(
            "\
apiVersion: wharf/v1
kind: Service
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  image: box:1
  command: [/bin/busybox, sh, -c]
  args:
    - |
      echo 'version {version}, replica' > /tmp/index.html
      echo started
      exec /bin/busybox httpd -f -p 8080 -h /tmp
  ports: [{{name: http, port: 8080{publish}}}]
  mounts: [{{target: /tmp, tmpfs: {{size: 1Mi}}}}]
  resources: {{memory: 32Mi, pids: 32}}
  placement: {{nodes: {{{home}}}}}
  health: {{readiness: {{http: {{port: http, path: /}}, interval: 200ms}}}}
",
            name = self.name,
            replicas = self.replicas,
            version = self.version,
        )
    }

    fn write(&self, several: &Several) -> String {
        let path = several.folder().join(format!("{}.yaml", self.name));
        std::fs::write(&path, self.manifest()).expect("the manifest");
        path.display().to_string()
    }
}

/// The processes of a service, as soon as all of its slots have one.
fn pids(several: &Several, service: &str, replicas: usize) -> BTreeMap<u64, i64> {
    wait_for("the processes", SOON, || {
        let pids = several.pids(service);
        if pids.len() == replicas { Ok(pids) } else { Err(pids) }
    })
}

/// What must succeed, of one program at one server.
fn ok(several: &Several, program: &Path, server: &str, args: &[&str]) -> String {
    let Ended { code, stdout, stderr } = several.ask_by(program, server, args);
    assert_eq!(
        code,
        0,
        "{} {args:?} at {server}: {stdout}\n{stderr}\n{}",
        program.display(),
        several.log(server)
    );
    stdout
}

/// The level in use, as this server knows it.
fn level(several: &Several, server: &str) -> String {
    let seen = ok(several, &tests::program(), server, &["cluster", "status"]);
    let line = seen.lines().find_map(|line| line.strip_prefix("level "));
    line.unwrap_or_else(|| panic!("no level in {seen}")).trim().to_owned()
}

fn wait_for_level(several: &Several, server: &str) {
    wait_for("the level in use to rise", SOON, || match level(several, server) {
        level if level == "2" => Ok(()),
        level => Err((level, several.log(server))),
    });
}
