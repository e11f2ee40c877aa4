//! The promise of a rollout: a replica that serves is stopped only where enough others serve.
//!
//! It is checked against the processes themselves, at the moment of the decision, and only in worlds where replicas have
//! no faults of their own: there, every loss is the cluster's doing.

use std::collections::BTreeSet;

use consensus::Persist;
use model::{Desired, Replica, ReplicaId, Service, StopReason};
use orchestrator::Limits;
use store::{Command, State, Step};

use super::logs::Decided;
use crate::world::World;

impl World {
    /// A server hands entries to its log: what was decided is known from here on.
    pub(crate) fn note_entries(&mut self, server: usize, persist: &Persist) {
        for Decided { at, command, before } in self.logs.written(&mut self.cx, server, persist) {
            let Some(command) = command else { continue };
            // The one that decided, should its own disk be the last to hear of it.
            let decider = self.agreement.leader_of(at.term).unwrap_or(server);
            self.check_spans(&before, &command);
            self.check_losses(decider, &before, &command);
            let index = at.index;
            if let Command::Progress { service, steps, .. } = &command {
                let steps_said = Steps(steps);
                self.cx.say(format_args!("server {server}: decides at {index} for {service}: {steps_said}"));
                if self.plan.gentle {
                    self.check_promise(decider, &before, service, steps);
                }
            } else {
                self.cx.say(format_args!("server {server}: writes at {index}: {}", kind(&command)));
            }
        }
    }

    fn check_promise(&mut self, decider: usize, before: &State, key: &model::ServiceKey, steps: &[Step]) {
        let Some(service) = before.service(key).filter(|service| service.deleting_since.is_none()) else {
            return;
        };
        let limits = limits_after(before, service, steps);
        let is_counted = |replica: &Replica| replica.slot.get() <= limits.wanted && self.serves(replica);
        let stopped: BTreeSet<ReplicaId> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Stop { id, reason } if is_promised(reason) => Some(*id),
                _ => None,
            })
            .collect();
        // One that the server could not know to be ready is no loss.
        let heard = &self.servers[decider].heard_ready;
        let known = |replica: &Replica| heard.get(&replica.id).copied().unwrap_or(true);
        let lost: Vec<ReplicaId> = stopped
            .iter()
            .filter_map(|id| before.replica(*id))
            .filter(|replica| is_counted(replica) && known(replica))
            .map(|replica| replica.id)
            .collect();
        let left = before
            .replicas_of(key)
            .filter(|replica| replica.desired == Desired::Running && !stopped.contains(&replica.id))
            .filter(|replica| is_counted(replica))
            .count();
        let must = limits.must_be_available() as usize;
        if !lost.is_empty() && left < must {
            let detail = format!("{key}: {lost:?} served and are stopped, {left} are left, {must} must be");
            self.cx.violate("never more unavailable than promised", detail);
        }
    }

    /// Whether its program is there for its users, whoever knows.
    pub(crate) fn serves(&self, replica: &Replica) -> bool {
        let node = self.nodes.iter().find(|node| Some(node.info.id) == replica.node);
        let main = node.and_then(|node| node.host.main_of(replica.id));
        main.is_some_and(|main| !main.is_ending && main.fate.is_ready(self.cx.calm, self.cx.now))
    }
}

/// What a plan stops is stopped on the way to the revision that it goes back to, if it does: another revision may be one that
/// is stop-first whatever its policy says.
fn limits_after(before: &State, service: &Service, steps: &[Step]) -> Limits {
    let back_to = steps.iter().find_map(|step| match step {
        Step::RollBack { back_to, .. } => Some(*back_to),
        _ => None,
    });
    let service = Service { revision: back_to.unwrap_or(service.revision), ..service.clone() };
    Limits::of(before, &service)
}

/// Whether a replica that is stopped for this reason is one that another is to take the place of first. What is on a lost
/// node is not: nobody knows whether it serves.
fn is_promised(reason: &StopReason) -> bool {
    match reason {
        StopReason::Replaced { .. }
        | StopReason::Failed { .. }
        | StopReason::NodeDrained { .. }
        | StopReason::Misplaced { .. }
        | StopReason::Surplus => true,
        StopReason::ScaledDown | StopReason::Deleted | StopReason::NodeDown { .. } => false,
    }
}

fn kind(command: &Command) -> String {
    match command {
        Command::Apply(apply) => format!("apply {} x{}", apply.service, apply.spec.replicas),
        Command::Delete { service, .. } => format!("delete {service}"),
        Command::Scale { service, replicas, .. } => format!("scale {service} to {replicas}"),
        Command::Undo { service, to, .. } => format!("undo {service} to {to}"),
        Command::Register { info, .. } => format!("register {}", info.name),
        Command::Place { placements, .. } if placements.is_empty() => "what time it is".to_owned(),
        Command::Place { placements, .. } => {
            let one = |p: &store::Placement| format!("{} on {}", p.replica, p.node.0);
            format!("place {}", placements.iter().map(one).collect::<Vec<_>>().join(", "))
        }
        Command::Progress { service, .. } => format!("progress {service}"),
        Command::Record { events } => format!("{} event(s)", events.len()),
        Command::Node { node, change, .. } => format!("node {}: {change:?}", node.0),
        Command::Configure { node_lost_after, .. } => format!("nodes are lost after {node_lost_after}"),
        Command::PutMember { member } => format!("member {} {:?}", member.name, member.part),
        Command::Trust(change) => format!("{change:?}"),
        Command::Raise { to } => format!("{to} is in use"),
    }
}

struct Steps<'a>(&'a [Step]);

impl std::fmt::Display for Steps<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { "; " })?;
            match step {
                Step::Create { id, slot, revision, desired } => {
                    write!(f, "create {id} slot {slot}@{revision} {}", desired.as_str())?;
                }
                Step::Start { id } => write!(f, "start {id}")?,
                Step::Stop { id, reason } => write!(f, "stop {id} ({reason})")?,
                Step::Forget { id } => write!(f, "forget {id}")?,
                Step::Progressed { available } => write!(f, "progressed to {available}")?,
                Step::Complete => f.write_str("complete")?,
                Step::RollBack { back_to, reason } => write!(f, "roll back to {back_to} ({reason})")?,
                Step::RolledBack => f.write_str("rolled back")?,
                Step::Pause { reason } => write!(f, "pause ({reason})")?,
                Step::Remove => f.write_str("remove")?,
            }
        }
        Ok(())
    }
}
