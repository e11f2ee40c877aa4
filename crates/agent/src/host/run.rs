//! Starting, signalling and ending containers.

use std::net::Ipv4Addr;

use model::{Assignment, Name, OnPartition, ReplicaId};
use runtime::{LogTarget, Rootfs, StartError, StartRequest, Status};

use super::{
    Host, Sandbox, Startable, chain,
    fault::{judge, judge_start, of_node},
    make_dir, runtime_id,
};
use crate::{
    compile::SIGTERM,
    core::{ContainerId, Setback, StopSignal},
};

/// Per container. Enough for a look back, little enough that a chatty one does not fill the disk.
const LOG_BYTES: u64 = 10 << 20;
const LOG_FILES: u32 = 3;

/// Whether its keepers end it with the lease, whatever becomes of this agent.
fn needs_lease(assignment: &Assignment) -> bool {
    match assignment.template.on_partition {
        OnPartition::Continue => false,
        OnPartition::Stop => true,
    }
}

impl Host {
    /// The process' id on the host, or why there is none.
    pub(crate) fn start(
        &self,
        id: &ContainerId,
        assignment: &Assignment,
        address: Ipv4Addr,
    ) -> Result<u32, Setback> {
        let sandbox = self.startable(assignment, address)?;
        // Again: a link in such a path may lead elsewhere since.
        self.guard_host_paths(&assignment.template).map_err(|error| judge(&error))?;
        self.restore_etc(assignment, address).map_err(|error| of_node(&error))?;
        let startable = sandbox.container(&id.container).map_err(Setback::of_replica)?;
        let rid = runtime_id(id).map_err(|error| judge(&error))?;
        let log_dir = self.log_dir(&assignment.service, id.replica);
        make_dir(&log_dir).map_err(|error| of_node(&error))?;
        let name = rid.as_str();
        // One may be left of a start of this attempt that never came to be.
        self.images.remove_snapshot(name).map_err(|error| of_node(&error))?;
        let snapshot = self.images.create_snapshot(name).map_err(|error| of_node(&error))?;
        let mut lowers = startable.image.layers.clone();
        lowers.push(self.config.skeleton_dir());
        let request = StartRequest {
            id: rid.clone(),
            spec: startable.spec.clone(),
            rootfs: Rootfs::Overlay { lowers, upper: snapshot.upper, work: snapshot.work },
            log: LogTarget {
                path: log_dir.join(format!("{}.log", id.container)),
                max_bytes: LOG_BYTES,
                max_files: LOG_FILES,
            },
            deadline: needs_lease(assignment).then(|| self.config.lease_path()),
            init: startable.init,
        };
        match self.runtime.start(&request) {
            Ok(started) => Ok(u32::try_from(started.pid).unwrap_or_default()),
            Err(StartError::Exists(_)) => self.take_over(&rid),
            Err(error) => {
                let setback = judge_start(&error);
                if let Err(error) = self.images.remove_snapshot(name) {
                    tracing::warn!(%id, error = chain(&error), "the snapshot of a container that did not start is left");
                }
                Err(setback)
            }
        }
    }

    /// An agent that died while it ordered this very start was obeyed all the same.
    fn take_over(&self, id: &runtime::ContainerId) -> Result<u32, Setback> {
        match self.runtime.find(id).map_err(|error| of_node(&error))?.map(|found| found.status) {
            Some(Status::Running { pid }) => Ok(u32::try_from(pid).unwrap_or_default()),
            // Its exit will be seen as soon as it is watched.
            Some(Status::Exited(_) | Status::Broken) => Ok(0),
            None => Err(Setback::of_node("a start of it was just being undone")),
        }
    }

    /// The attempt of a container that runs now.
    pub(crate) fn running(&self, replica: ReplicaId, container: &Name) -> Result<ContainerId, String> {
        let unknown = || format!("replica {replica} is not on this node (any more)");
        let sandbox = self.sandbox(replica).ok_or_else(unknown)?;
        sandbox.container(container)?;
        let all = self.runtime.list().map_err(|error| chain(&error))?;
        let running = all.iter().filter(|found| matches!(found.status, Status::Running { .. }));
        let mut ids = running.filter_map(|found| found.id.as_str().parse::<ContainerId>().ok());
        ids.find(|id| id.replica == replica && id.container == *container)
            .ok_or_else(|| format!("container {container} of {} is not running now", sandbox.label()))
    }

    pub(crate) fn signal(&self, id: &ContainerId, signal: &StopSignal) -> Result<(), runtime::Error> {
        let number = match signal {
            StopSignal::Number(number) => *number,
            StopSignal::OfImage(_) => self.image_signal(id),
        };
        let Ok(rid) = runtime_id(id) else { return Ok(()) };
        self.runtime.signal(&rid, i32::from(number))
    }

    fn image_signal(&self, id: &ContainerId) -> u8 {
        let sandbox = self.sandbox(id.replica);
        let startable = sandbox.as_ref().and_then(|sandbox| sandbox.containers.get(&id.container));
        // One from before that could not be made startable again is stopped all the same.
        startable.map_or(SIGTERM, |startable| startable.stop_signal)
    }

    pub(crate) fn kill(&self, id: &ContainerId) -> Result<(), runtime::Error> {
        let Ok(rid) = runtime_id(id) else { return Ok(()) };
        match self.runtime.kill(&rid) {
            Err(runtime::Error::Unknown(_)) => Ok(()),
            other => other,
        }
    }

    /// What an attempt that ended leaves behind, except its log.
    pub(crate) fn discard(&self, id: &ContainerId) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let rid = runtime_id(id)?;
        self.runtime.delete(&rid)?;
        self.images.remove_snapshot(rid.as_str())?;
        Ok(())
    }
}

impl Sandbox {
    /// As people call the replica: `web.2`.
    pub(crate) fn label(&self) -> String {
        format!("{}.{}", self.service, self.slot)
    }

    /// Or in words what there is instead.
    pub(crate) fn container(&self, name: &Name) -> Result<&Startable, String> {
        self.containers.get(name).ok_or_else(|| {
            let mut known: Vec<&str> = self.containers.keys().map(Name::as_str).collect();
            known.sort_unstable();
            format!("{} has no container {name}, only {}", self.label(), known.join(", "))
        })
    }
}
