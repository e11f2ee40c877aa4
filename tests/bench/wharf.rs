//! wharf, as `wharf dev` runs it on one machine.

use std::{collections::BTreeMap, time::Duration};

use tests::{Cluster, leftovers::processes, wait_for};

use crate::{
    cases::{Orchestrator, Policy, Service},
    image::{self, Image},
};

#[derive(Debug)]
pub struct Wharf {
    cluster: Cluster,
}

impl Wharf {
    pub fn start(image: &Image) -> Wharf {
        let cluster = Cluster::start();
        let archive = image.archive();
        cluster.ok(&["image", "load", archive.to_str().expect("UTF-8"), "--name", image::NAME]);
        Wharf { cluster }
    }

    pub fn end(self) {
        self.cluster.end();
    }

    /// The launcher is the agent's child and has its command line; keepers are the launcher's forks, or nobody's.
    fn of_agent(&self) -> BTreeMap<&'static str, Vec<i32>> {
        let agents = self.cluster.daemons("agent");
        let mut parts: BTreeMap<&'static str, Vec<i32>> = BTreeMap::new();
        let (mut keepers, all) = (Vec::new(), processes());
        for process in &all {
            if agents.contains(&process.parent) {
                parts.entry("launcher").or_default().push(process.pid);
            } else if process.command.starts_with("wharf-keeper ") {
                keepers.push(process.pid);
            }
        }
        let is_init =
            |parent: i32, command: &str| keepers.contains(&parent) && command.starts_with("wharf-init ");
        let inits = all.iter().filter(|process| is_init(process.parent, &process.command));
        let inits: Vec<i32> = inits.map(|process| process.pid).collect();
        parts.insert("agent", agents);
        parts.insert("keepers", keepers);
        parts.insert("inits", inits);
        parts
    }
}

impl Orchestrator for Wharf {
    fn name(&self) -> String {
        self.cluster.ok(&["version"]).lines().next().unwrap_or("wharf").to_owned()
    }

    fn apply(&mut self, service: &Service) {
        let applied = self.cluster.apply("bench", &manifest(service));
        assert_eq!(applied.code, 0, "{applied:#?}");
    }

    fn remove(&mut self) {
        self.cluster.ok(&["delete", "bench"]);
        wait_for("the keepers to end", Duration::from_secs(30), || match &self.of_agent()["keepers"] {
            none if none.is_empty() => Ok(()),
            some => Err(some.clone()),
        });
    }

    fn parts(&self) -> BTreeMap<&'static str, Vec<i32>> {
        let mut parts = self.of_agent();
        parts.insert("server", self.cluster.daemons("server"));
        parts
    }
}

fn manifest(service: &Service) -> String {
    let Service { replicas, sleep, policy } = service;
    let update = match policy {
        Policy::Quick => "  update: {order: start-first, maxSurge: 1}\n",
        Policy::Default => "",
    };
    format!(
        "\
apiVersion: wharf/v1
kind: Service
metadata: {{name: bench}}
spec:
  replicas: {replicas}
  image: {}
  command: [/bin/sleep, \"{sleep}\"]
  resources: {{memory: 64Mi, pids: 64}}
{update}",
        image::NAME
    )
}
