//! Why a container could not be started: the step, the thing it was about, and the reason.
//!
//! Steps happen in forked processes, so a failure is data that crosses a socket, not a chain of Rust errors.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// The step of starting that failed, in the order in which they happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    RunDirectory,
    Log,
    Cgroup,
    Namespaces,
    Rootfs,
    Mount,
    Device,
    Mask,
    ReadOnly,
    Hostname,
    Sysctl,
    Limits,
    WorkingDirectory,
    User,
    Capabilities,
    Seccomp,
    Terminal,
    Exec,
    Keeper,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::RunDirectory => "run directory",
            Step::Log => "log",
            Step::Cgroup => "cgroup",
            Step::Namespaces => "namespaces",
            Step::Rootfs => "root filesystem",
            Step::Mount => "mount",
            Step::Device => "device",
            Step::Mask => "masked path",
            Step::ReadOnly => "read-only path",
            Step::Hostname => "hostname",
            Step::Sysctl => "sysctl",
            Step::Limits => "limits",
            Step::WorkingDirectory => "working directory",
            Step::User => "user",
            Step::Capabilities => "capabilities",
            Step::Seccomp => "seccomp",
            Step::Terminal => "terminal",
            Step::Exec => "exec",
            Step::Keeper => "keeper",
        })
    }
}

/// A failed step. Reads like `exec /bin/foo: No such file or directory in the image`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{step} {subject}: {reason}")]
pub struct Failure {
    pub step: Step,
    /// What the step was about: a path, a namespace, a limit.
    pub subject: String,
    pub reason: String,
    /// The kernel's error number, when it was the kernel that refused.
    pub errno: Option<i32>,
}

impl Failure {
    pub(crate) fn new(step: Step, subject: impl fmt::Display, reason: impl fmt::Display) -> Failure {
        Failure { step, subject: bounded(&subject), reason: bounded(&reason), errno: None }
    }

    pub(crate) fn errno(step: Step, subject: impl fmt::Display, errno: i32) -> Failure {
        let reason = rustix::io::Errno::from_raw_os_error(errno).to_string();
        // The number is in `errno`; people read the words.
        let words = reason.split(" (os error").next().unwrap_or_default().to_owned();
        Failure { step, subject: bounded(&subject), reason: words, errno: Some(errno) }
    }

    pub(crate) fn of(step: Step, subject: impl fmt::Display, error: &io::Error) -> Failure {
        match error.raw_os_error() {
            Some(errno) => Failure::errno(step, subject, errno),
            None => Failure::new(step, subject, error),
        }
    }
}

/// A failure travels in one packet, and names and paths of a spec may be of any length.
fn bounded(text: &impl fmt::Display) -> String {
    const LONGEST: usize = 4096;
    let mut text = text.to_string();
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    text
}

/// Turns an error into the failure of a step.
pub(crate) trait At<T> {
    fn at(self, step: Step, subject: impl fmt::Display) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, step: Step, subject: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::of(step, subject, &error.into()))
    }
}
