//! Nobody stays in a balancer who does not serve: longer than probes, an exit's way and the balancer itself need.

use std::net::SocketAddrV4;

use agent::core::Published;
use model::Millis;

use crate::world::World;

/// A readiness probe fails twice, at most two seconds and a timeout apart; the rest is for the agent and its balancer.
const PATIENCE: Millis = Millis(10_000);

impl World {
    pub(crate) fn look(&mut self) {
        for node in 0..self.nodes.len() {
            self.check_serving(node);
        }
        self.check_rest();
    }

    fn check_serving(&mut self, node: usize) {
        let now = self.cx.now;
        let is_watched = self.nodes[node].agent.as_ref().is_some_and(|agent| agent.has_adopted);
        let backends: Vec<SocketAddrV4> = self.nodes[node]
            .host
            .in_force
            .iter()
            .flat_map(|Published { backends, .. }| backends)
            .copied()
            .collect();
        let idle: Vec<SocketAddrV4> = backends
            .into_iter()
            // Of other hosts a balancer knows what the control plane last told, however long ago.
            .filter(|backend| self.nodes[node].host.is_here(*backend.ip()))
            .filter(|backend| is_watched && !self.backend_serves(node, *backend))
            .collect();
        let not_serving = &mut self.nodes[node].host.not_serving;
        not_serving.retain(|backend, _| idle.contains(backend));
        for backend in idle {
            let since = *not_serving.entry(backend).or_insert(now);
            if now.since(since) > PATIENCE {
                let detail = format!("{backend} on node {node} has not served for {}", now.since(since));
                self.cx.violate("a balancer sends only where somebody serves", detail);
                return;
            }
        }
    }

    /// Without a readiness probe nobody can know more than that the process runs.
    fn backend_serves(&self, node: usize, backend: SocketAddrV4) -> bool {
        let host = &self.nodes[node].host;
        let replica = host.sandboxes.iter().find(|(_, address)| *address == backend.ip());
        let Some(main) = replica.and_then(|(id, _)| host.main_of(*id)) else { return false };
        main.template.main.health.readiness.is_none() || main.fate.is_ready(self.cx.calm, self.cx.now)
    }
}
