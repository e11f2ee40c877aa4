//! Docker Swarm of one node, from Debian's `docker.io`, set to do the same for a service as wharf does: an init, limits of
//! memory and processes, a network of its own, and no published port.

mod api;
mod daemon;

use std::{collections::BTreeMap, path::Path, process::Command, time::Duration};

use serde_json::Value;
use tests::{
    leftovers::{Process, processes},
    wait_for,
};

use self::daemon::Daemon;
use crate::{
    cases::{Orchestrator, Policy, Service},
    image::{self, Image},
};

const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn is_installed() -> bool {
    Path::new(daemon::DOCKERD).exists()
}

#[derive(Debug)]
pub(crate) struct Swarm {
    daemon: Daemon,
    exists: bool,
}

impl Swarm {
    pub(crate) fn start(image: &Image) -> Swarm {
        let swarm = Swarm { daemon: Daemon::start(), exists: false };
        let root_filesystem = image.root_filesystem();
        swarm.docker(&["import", root_filesystem.to_str().expect("UTF-8"), image::NAME]);
        // A swarm of one: nobody is told of the address, and nobody could reach it.
        swarm.docker(&["swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1"]);
        swarm
    }

    fn docker(&self, args: &[&str]) -> String {
        let output = Command::new("docker").arg("-H").arg(self.daemon.address()).args(args).output();
        let output = output.expect("docker.io comes with its client");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {args:?}: {errors}\n{}", self.daemon.log());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn get(&self, path: &str) -> Result<Value, String> {
        api::get(&self.daemon.socket(), path).map_err(|error| error.to_string())
    }

    fn create(&self, service: &Service) {
        let (replicas, sleep) = (service.replicas.to_string(), service.sleep.to_string());
        let mut args = vec!["service", "create", "--detach", "--name", "bench", "--replicas", &replicas];
        args.extend(["--no-resolve-image", "--init", "--limit-memory", "64M", "--limit-pids", "64"]);
        match service.policy {
            Policy::Quick => {
                args.extend(["--restart-delay", "0s", "--update-order", "start-first"]);
                args.extend(["--update-parallelism", "1", "--update-delay", "0s"]);
            }
            Policy::Default => {}
        }
        args.extend([image::NAME, "/bin/sleep", &sleep]);
        self.docker(&args);
        // The count of running tasks is there from version 1.41 on.
        wait_for("the tasks to run", PATIENCE, || {
            let services = self.get("/v1.41/services?status=true")?;
            let running = &services[0]["ServiceStatus"]["RunningTasks"];
            if *running == service.replicas { Ok(()) } else { Err(running.to_string()) }
        });
    }

    fn update(&self, service: &Service) {
        self.docker(&[
            "service",
            "update",
            "--detach",
            "--args",
            &format!("/bin/sleep {}", service.sleep),
            "bench",
        ]);
        wait_for("the update to complete", PATIENCE, || {
            let status = &self.get("/v1.41/services/bench")?["UpdateStatus"]["State"];
            if status == "completed" { Ok(()) } else { Err(status.to_string()) }
        });
    }
}

impl Orchestrator for Swarm {
    fn name(&self) -> String {
        format!("Swarm {}", self.docker(&["version", "--format", "{{.Server.Version}}"]).trim())
    }

    fn apply(&mut self, service: &Service) {
        if self.exists {
            self.update(service)
        } else {
            self.create(service)
        }
        self.exists = true;
    }

    fn remove(&mut self) {
        self.docker(&["service", "rm", "bench"]);
        self.exists = false;
        wait_for("the containers to go", PATIENCE, || {
            let left = [self.get("/v1.41/tasks")?, self.get("/v1.41/containers/json?all=true")?];
            let left: usize = left.iter().filter_map(Value::as_array).map(Vec::len).sum();
            if left == 0 { Ok(()) } else { Err(format!("{left} tasks and containers")) }
        });
    }

    fn parts(&self) -> BTreeMap<&'static str, Vec<i32>> {
        let known = [
            ("dockerd", "dockerd "),
            ("containerd", "containerd "),
            ("shims", "/usr/bin/containerd-shim"),
            ("inits", "/sbin/docker-init "),
        ];
        let mut parts: BTreeMap<&'static str, Vec<i32>> = known.map(|(part, _)| (part, Vec::new())).into();
        let mine = self.daemon.descendants();
        let is_service = |process: &Process| process.command.starts_with("/bin/sleep ");
        let counts = |process: &Process| mine.contains(&process.pid) && !is_service(process);
        for process in processes().into_iter().filter(counts) {
            let part = known.iter().find(|(_, command)| process.command.starts_with(command));
            parts.entry(part.map_or("others", |(part, _)| part)).or_default().push(process.pid);
        }
        parts
    }
}
