//! Who does what the core ordered: the lanes of the replicas, the balancer, the session.

use model::Observed;
use proto::session::ContainerExit;
use tokio::task::spawn_blocking;

use super::Agent;
use crate::{
    balancer::Order,
    core::{self, Action},
    journal::Held,
    session::ToServer,
};

impl Agent {
    pub(super) fn release(&mut self, held: Held) {
        match held {
            Held::Hello(observed) => self.say(ToServer::Hello(self.annotated(observed))),
            Held::Acknowledge(sequence) => self.say(ToServer::Acknowledged(sequence)),
            Held::Actions(actions) => actions.into_iter().for_each(|action| self.execute(action)),
        }
    }

    fn execute(&mut self, action: Action) {
        match action {
            Action::Prepare { ref assignment, .. } => self.lanes.order(assignment.replica, action),
            Action::StartContainer { ref id, .. }
            | Action::Signal { ref id, .. }
            | Action::Kill { ref id }
            | Action::Probe { ref id, .. }
            | Action::Discard { ref id } => self.lanes.order(id.replica, action),
            Action::Clean { replica, .. } => self.lanes.order(replica, action),
            Action::Balance { serial, ports, directory } => {
                self.balancer.send_replace(Order { serial, ports, directory });
            }
            Action::GoBy { version } => self.say(ToServer::GoesBy(version)),
            Action::Report(observed) => self.say(ToServer::Report(self.annotated(observed))),
            Action::Exits(exits) => self.say(ToServer::Exits(exits.into_iter().map(on_the_wire).collect())),
            Action::ReopenSession => self.say(ToServer::Reopen),
            // The journal took it.
            Action::Save(_) => debug_assert!(false, "a save comes first in its list"),
        }
    }

    /// With what people should know of replicas that are as they should be; in any other, the message says what is wrong.
    fn annotated(&self, mut observed: Vec<Observed>) -> Vec<Observed> {
        for seen in observed.iter_mut().filter(|seen| seen.message.is_none() && seen.ready_since.is_some()) {
            seen.message = self.host.note(seen.replica);
        }
        observed
    }

    pub(super) fn say(&self, what: ToServer) {
        // The session ends only with this end of its inbox.
        let _ = self.to_server.send(what);
    }

    pub(super) fn collect_garbage(&self) {
        if self.in_doubt {
            return; // Nobody knows what is in use.
        }
        let (host, in_use) = (self.host.clone(), self.core.images());
        spawn_blocking(move || host.collect_garbage(&in_use));
    }
}

fn on_the_wire(exit: core::ContainerExit) -> ContainerExit {
    let core::ContainerExit { replica, service, slot, container, exit, restarts, stop } = exit;
    ContainerExit { replica, slot, service, container, exit, restarts, stop }
}
