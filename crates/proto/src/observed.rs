//! What agents see: replicas, their containers, how those ended.

use std::net::Ipv4Addr;

use model::{
    Bytes, ContainerObserved, ContainerState, Exit, ExitCause, Millis, Observed, ReplicaId, Stop, Timeline,
    Timestamp,
};

use crate::{error::DecodeError, field, v1};

field::same_variants! {
    Phase { Assigned, Preparing, Prepared, Running, Stopping, Completed, Failed, Removed }
}

impl From<&Observed> for v1::Observed {
    fn from(observed: &Observed) -> Self {
        v1::Observed {
            replica: observed.replica.0,
            phase: v1::Phase::from(observed.phase).into(),
            ready_since_unix_ms: observed.ready_since.map(|at| at.0),
            timeline: Some((&observed.timeline).into()),
            address_ipv4: observed.address.map(u32::from),
            containers: observed.containers.iter().map(Into::into).collect(),
            message: observed.message.clone(),
        }
    }
}

impl TryFrom<v1::Observed> for Observed {
    type Error = DecodeError;
    fn try_from(wire: v1::Observed) -> Result<Self, DecodeError> {
        Ok(Observed {
            replica: ReplicaId(wire.replica),
            phase: field::value::<v1::Phase, _>(wire.phase, "phase")?,
            ready_since: wire.ready_since_unix_ms.map(Timestamp),
            timeline: field::required(wire.timeline, "timeline")?,
            address: wire.address_ipv4.map(Ipv4Addr::from),
            containers: field::list(wire.containers, "containers")?,
            message: wire.message,
        })
    }
}

impl From<&Timeline> for v1::Timeline {
    fn from(timeline: &Timeline) -> Self {
        v1::Timeline {
            received_unix_ms: timeline.received.map(|at| at.0),
            image_ready_unix_ms: timeline.image_ready.map(|at| at.0),
            started_unix_ms: timeline.started.map(|at| at.0),
            ready_unix_ms: timeline.ready.map(|at| at.0),
        }
    }
}

impl TryFrom<v1::Timeline> for Timeline {
    type Error = DecodeError;
    fn try_from(wire: v1::Timeline) -> Result<Self, DecodeError> {
        Ok(Timeline {
            received: wire.received_unix_ms.map(Timestamp),
            image_ready: wire.image_ready_unix_ms.map(Timestamp),
            started: wire.started_unix_ms.map(Timestamp),
            ready: wire.ready_unix_ms.map(Timestamp),
        })
    }
}

impl From<&ContainerObserved> for v1::ContainerObserved {
    fn from(container: &ContainerObserved) -> Self {
        use v1::container_observed::{BackingOff, Ended, Running, State, Waiting};
        let state = match container.state {
            ContainerState::Waiting => State::Waiting(Waiting {}),
            ContainerState::Running { pid, since, ready } => {
                State::Running(Running { pid, since_unix_ms: since.0, ready })
            }
            ContainerState::BackingOff { until } => State::BackingOff(BackingOff { until_unix_ms: until.0 }),
            ContainerState::Ended => State::Ended(Ended {}),
        };
        v1::ContainerObserved {
            name: container.name.to_string(),
            state: Some(state),
            restarts: container.restarts,
            last_exit: container.last_exit.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<v1::ContainerObserved> for ContainerObserved {
    type Error = DecodeError;
    fn try_from(wire: v1::ContainerObserved) -> Result<Self, DecodeError> {
        use v1::container_observed::State;
        let state = match field::kind(wire.state, "state")? {
            State::Waiting(_) => ContainerState::Waiting,
            State::Running(running) => ContainerState::Running {
                pid: running.pid,
                since: Timestamp(running.since_unix_ms),
                ready: running.ready,
            },
            State::BackingOff(backing_off) => {
                ContainerState::BackingOff { until: Timestamp(backing_off.until_unix_ms) }
            }
            State::Ended(_) => ContainerState::Ended,
        };
        Ok(ContainerObserved {
            name: field::parsed(&wire.name, "name")?,
            state,
            restarts: wire.restarts,
            last_exit: field::optional(wire.last_exit, "last_exit")?,
        })
    }
}

impl From<Stop> for v1::Stop {
    fn from(stop: Stop) -> Self {
        v1::Stop { took_ms: stop.took.0, killed: stop.killed }
    }
}

impl From<v1::Stop> for Stop {
    fn from(wire: v1::Stop) -> Self {
        Stop { took: Millis(wire.took_ms), killed: wire.killed }
    }
}

impl From<&Exit> for v1::Exit {
    fn from(exit: &Exit) -> Self {
        v1::Exit { at_unix_ms: exit.at.0, ran_for_ms: exit.ran_for.0, cause: Some((&exit.cause).into()) }
    }
}

impl TryFrom<v1::Exit> for Exit {
    type Error = DecodeError;
    fn try_from(wire: v1::Exit) -> Result<Self, DecodeError> {
        Ok(Exit {
            cause: field::kind(wire.cause, "cause")?.try_into()?,
            at: Timestamp(wire.at_unix_ms),
            ran_for: Millis(wire.ran_for_ms),
        })
    }
}

impl From<&ExitCause> for v1::exit::Cause {
    fn from(cause: &ExitCause) -> Self {
        use v1::exit::{Cause, NotStarted, OutOfMemory, ProbeFailed, Unknown};
        match cause {
            ExitCause::Code(code) => Cause::Code((*code).into()),
            ExitCause::Signal(signal) => Cause::Signal((*signal).into()),
            ExitCause::OutOfMemory { limit, peak } => {
                Cause::OutOfMemory(OutOfMemory { limit_bytes: limit.0, peak_bytes: peak.0 })
            }
            ExitCause::ProbeFailed { probe, detail } => {
                Cause::ProbeFailed(ProbeFailed { probe: probe.clone(), detail: detail.clone() })
            }
            ExitCause::NotStarted { reason } => Cause::NotStarted(NotStarted { reason: reason.clone() }),
            ExitCause::Unknown => Cause::Unknown(Unknown {}),
        }
    }
}

impl TryFrom<v1::exit::Cause> for ExitCause {
    type Error = DecodeError;
    fn try_from(wire: v1::exit::Cause) -> Result<Self, DecodeError> {
        use v1::exit::Cause;
        Ok(match wire {
            Cause::Code(code) => ExitCause::Code(field::ranged(code, 0..=255, "code")?),
            Cause::Signal(signal) => ExitCause::Signal(field::ranged(signal, 0..=255, "signal")?),
            Cause::OutOfMemory(oom) => {
                ExitCause::OutOfMemory { limit: Bytes(oom.limit_bytes), peak: Bytes(oom.peak_bytes) }
            }
            Cause::ProbeFailed(failed) => {
                ExitCause::ProbeFailed { probe: failed.probe, detail: failed.detail }
            }
            Cause::NotStarted(failed) => ExitCause::NotStarted { reason: failed.reason },
            Cause::Unknown(_) => ExitCause::Unknown,
        })
    }
}
