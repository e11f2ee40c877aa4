//! Three probes with three meanings: startup holds the others back, readiness gates traffic and progress,
//! liveness restarts.

use crate::{Millis, Name};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Until it succeeds the other two do not run; when it fails for good the container is restarted.
    pub startup: Option<Probe>,
    /// Without one, a container is ready as soon as it runs (and its startup probe succeeded).
    pub readiness: Option<Probe>,
    pub liveness: Option<Probe>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub action: ProbeAction,
    pub interval: Millis,
    pub timeout: Millis,
    /// So many in a row, and it counts as succeeding.
    pub successes: u32,
    /// So many in a row, and it counts as failing.
    pub failures: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeAction {
    /// GET; 200 to 399 is a success. Redirects are not followed.
    Http { port: ProbePort, path: String },
    /// A connection that opens is a success.
    Tcp { port: ProbePort },
    /// Run inside the container; exit code 0 is a success.
    Exec { command: Vec<String> },
}

/// A number, or the name of one of the replica's ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbePort {
    Number(u16),
    Named(Name),
}
