//! Taking over what runs here without a ledger: from what the server assigns and what is found on the host.
//!
//! Only a replica of which a container runs in its own sandbox is remembered so; all else is a stranger and goes. What
//! cannot be seen, such as a restart that was being waited for, begins anew.

use std::{collections::HashMap, net::Ipv4Addr};

use model::{Assignment, Name, Phase, ReplicaId, RestartWhen, Timestamp};

use super::{Host, HostError};
use crate::core::{ContainerId, ContainerRecord, Found, FoundState, Record, Stage};

impl Host {
    /// As if the ledger had held these records all the time; and what is there, as [`Host::find`] tells it.
    pub(crate) fn remember(&self, assignments: &[Assignment]) -> Result<(Vec<Record>, Found), HostError> {
        let now = self.clock.now();
        let containers = self.find_containers(now)?;
        let sandboxes = self.network.sandboxes().map_err(HostError::Network)?;
        let by_replica =
            |(name, address): (String, Ipv4Addr)| Some((name.parse::<ReplicaId>().ok()?, address));
        let addresses: HashMap<ReplicaId, Ipv4Addr> = sandboxes.into_iter().filter_map(by_replica).collect();
        let remembered = |assignment: &Assignment| {
            let address = *addresses.get(&assignment.replica)?;
            record(assignment, address, &containers, now)
        };
        let records: Vec<Record> = assignments.iter().filter_map(remembered).collect();
        let found = self.find(&records)?;
        Ok((records, found))
    }
}

/// None if nothing of it runs.
fn record(
    assignment: &Assignment,
    address: Ipv4Addr,
    found: &[(ContainerId, FoundState)],
    now: Timestamp,
) -> Option<Record> {
    let own: Vec<_> = found.iter().filter(|(id, _)| id.replica == assignment.replica).collect();
    if !own.iter().any(|(_, state)| matches!(state, FoundState::Running { .. })) {
        return None;
    }
    let template = &assignment.template;
    let last_attempt = |name: &Name| {
        own.iter().map(|(id, _)| id).filter(|id| id.container == *name).map(|id| id.attempt).max()
    };
    let attempts: Vec<Option<u32>> = template.containers().map(|spec| last_attempt(&spec.name)).collect();
    let inits = template.init.len();
    let main = attempts.len() - 1;
    let container = |(index, attempt): (usize, &Option<u32>)| match attempt {
        // Whether it runs or has ended is for the adoption to see, as after a crash in the middle of a start.
        Some(attempt) => ContainerRecord {
            attempt: *attempt,
            restarts: attempt.saturating_sub(1),
            stage: Stage::Starting,
            ..ContainerRecord::default()
        },
        // What leaves nothing behind has either ended in peace or waits to be started.
        None => {
            let later = attempts[index + 1..].iter().any(Option::is_some);
            let may_end = index < inits || (index < main && template.restart.when != RestartWhen::Always);
            let stage = if later && may_end { Stage::Ended } else { Stage::Waiting };
            ContainerRecord { stage, ..ContainerRecord::default() }
        }
    };
    let containers = attempts.iter().enumerate().map(container).collect();
    let blank = Record::new(assignment.clone(), now);
    Some(Record { phase: Phase::Running, address: Some(address), containers, ..blank })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{Exit, ExitCause, Millis};

    use super::*;
    use crate::compile::tests::{assignment, container};

    /// `main.3` runs, `-main.3` has ended; with an init container and a sidecar.
    fn stages(found: &[&str], when: RestartWhen) -> Option<Vec<(u32, Stage)>> {
        let mut assignment = assignment(&container("main"));
        let template = Arc::make_mut(&mut assignment.template);
        (template.init, template.sidecars) = (vec![container("fetch")], vec![container("proxy")]);
        template.restart.when = when;
        let parse = |text: &&str| {
            let (name, attempt) = text.trim_start_matches('-').split_once('.').unwrap();
            let id = ContainerId {
                replica: assignment.replica,
                container: name.parse().unwrap(),
                attempt: attempt.parse().unwrap(),
            };
            let exit = Exit { cause: ExitCause::Code(0), at: Timestamp(5), ran_for: Millis(5) };
            let state = match text.starts_with('-') {
                true => FoundState::Exited(exit),
                false => FoundState::Running { pid: 7, since: Timestamp(5) },
            };
            (id, state)
        };
        let found: Vec<_> = found.iter().map(parse).collect();
        let record = record(&assignment, [10, 0, 0, 7].into(), &found, Timestamp(9))?;
        Some(record.containers.iter().map(|container| (container.attempt, container.stage)).collect())
    }

    #[test]
    fn what_runs_is_remembered_and_the_rest_follows() {
        use Stage::{Ended, Starting, Waiting};
        let always = RestartWhen::Always;
        assert_eq!(stages(&[], always), None);
        assert_eq!(stages(&["-main.2"], always), None, "there is nothing to take over");
        assert_eq!(stages(&["fetch.1"], always), Some(vec![(1, Starting), (0, Waiting), (0, Waiting)]));
        let all = ["proxy.2", "-main.3", "main.4"];
        assert_eq!(stages(&all, always), Some(vec![(0, Ended), (2, Starting), (4, Starting)]));
        // A sidecar that is not there waits to be started again, or has ended in peace.
        assert_eq!(stages(&["main.1"], always), Some(vec![(0, Ended), (0, Waiting), (1, Starting)]));
        let never = RestartWhen::Never;
        assert_eq!(stages(&["main.1"], never), Some(vec![(0, Ended), (0, Ended), (1, Starting)]));
    }
}
