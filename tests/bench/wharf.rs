//! wharf, as `wharf dev` runs it on one machine.

use std::{collections::BTreeMap, time::Duration};

use tests::{
    Cluster,
    leftovers::{Process, processes},
    wait_for,
};

use crate::{
    cases::{Orchestrator, Policy, Service},
    image::{self, Image},
};

#[derive(Debug)]
pub(crate) struct Wharf {
    cluster: Cluster,
}

impl Wharf {
    pub(crate) fn start(image: &Image) -> Wharf {
        let cluster = Cluster::start();
        let archive = image.archive();
        cluster.ok(&["image", "load", archive.to_str().expect("UTF-8"), "--name", image::NAME]);
        Wharf { cluster }
    }

    /// The agent's child is the launcher, whose children are the keepers, whose children are the inits.
    fn of_agent(&self) -> BTreeMap<&'static str, Vec<i32>> {
        let all = processes();
        let children = |of: &[i32], command: &str| -> Vec<i32> {
            let is_one =
                |process: &&Process| of.contains(&process.parent) && process.command.starts_with(command);
            all.iter().filter(is_one).map(|process| process.pid).collect()
        };
        let agent = self.cluster.daemons("agent");
        let launcher = children(&agent, "");
        let keepers = children(&launcher, "wharf-keeper ");
        let inits = children(&keepers, "wharf-init ");
        [("agent", agent), ("launcher", launcher), ("keepers", keepers), ("inits", inits)].into()
    }
}

impl Orchestrator for Wharf {
    fn name(&self) -> String {
        self.cluster.ok(&["version"]).lines().next().unwrap_or_default().replace("client", "wharf")
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
