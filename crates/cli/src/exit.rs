//! How a command ends: the exit codes that CI relies on, and errors printed once, whole, at the edge.

use std::{error::Error, process::ExitCode};

use owo_colors::OwoColorize;
use proto::v1::Reason;

use crate::output;

/// The exit codes of every verb that changes or waits. They are an interface: never renumber them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Code {
    Done = 0,
    UsageOrConnection = 1,
    InvalidManifest = 2,
    RolledBack = 3,
    FailedAndPaused = 4,
    DeadlinePassed = 5,
    Unplaceable = 6,
    Superseded = 7,
    /// Only of `diff --exit-code`.
    Differs = 8,
    /// Ctrl-C while waiting, as shells count it.
    Interrupted = 130,
}

impl Code {
    /// Shown at the end of `--help`.
    pub const TABLE: &'static str = "\
Exit codes of verbs that change or wait:
  0  done                          4  failed, and the rollout is paused
  1  usage, refusal or connection  5  the deadline passed
  2  invalid manifest              6  no node can take a replica
  3  rolled back                   7  superseded by another apply";
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> ExitCode {
        ExitCode::from(code as u8)
    }
}

/// Why a command could not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    message: String,
    causes: Vec<String>,
    help: Option<String>,
    code: Code,
}

impl Failure {
    pub fn new(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), causes: Vec::new(), help: None, code: Code::UsageOrConnection }
    }

    /// Whoever read the output has seen enough, as in `wharf get services | head -1`: nothing is wrong, nothing is told.
    pub fn reader_gone() -> Failure {
        Failure::new("").code(Code::Done)
    }

    /// Adds what lies below: an error and all that it rests on, each said once.
    pub fn caused_by(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        let cause = cause.into();
        let mut next: Option<&(dyn Error + 'static)> = Some(cause.as_ref());
        while let Some(error) = next {
            self = self.because(error.to_string());
            next = error.source();
        }
        self
    }

    /// The same for a cause that is already words.
    pub fn because(mut self, cause: impl Into<String>) -> Failure {
        let cause = cause.into();
        if self.causes.last() != Some(&cause) {
            self.causes.push(cause);
        }
        self
    }

    /// What to do about it.
    pub fn help(self, help: impl Into<String>) -> Failure {
        Failure { help: Some(help.into()), ..self }
    }

    pub fn code(self, code: Code) -> Failure {
        Failure { code, ..self }
    }

    /// The failure, every cause and what to do, each on a line of its own.
    pub fn render(&self) -> String {
        let mut text = format!("{} {}\n", "error:".red().bold(), self.message);
        for cause in &self.causes {
            text.push_str(&format!("  {} {cause}\n", "because:".dimmed()));
        }
        if let Some(help) = &self.help {
            text.push_str(&format!("{} {help}\n", "help:".cyan()));
        }
        text
    }

    pub fn exit_code(&self) -> Code {
        self.code
    }

    pub fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            output::remark(&self.render());
        }
        self.code.into()
    }
}

impl From<tonic::Status> for Failure {
    /// A server's refusal says what, why and what to do by itself; what has no reason was never answered by a server.
    fn from(status: tonic::Status) -> Failure {
        match proto::reason::reason(&status) {
            Some(Reason::Invalid) => Failure::new(status.message()).code(Code::InvalidManifest),
            Some(_) => Failure::new(status.message()),
            None if is_connection_lost(&status) => {
                let help =
                    "`wharf version` tells whether a server answers; what was asked may or may not be done";
                Failure::new("the connection to the server broke").because(status.message()).help(help)
            }
            None => Failure::new(status.message()),
        }
    }
}

/// Whether a status was made by this end of the connection, and not said by a server.
pub fn is_connection_lost(status: &tonic::Status) -> bool {
    let made_here = Error::source(status).is_some() || status.message().contains("h2 protocol");
    made_here && proto::reason::reason(status).is_none()
}

/// Usage errors as clap words them, with its suggestions, but with our exit code.
pub fn usage(error: &clap::Error) -> ExitCode {
    // Fails only when the terminal is gone.
    let _ = error.print();
    if error.use_stderr() { Code::UsageOrConnection.into() } else { Code::Done.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_why_and_what_to_do_and_nothing_twice() {
        let inner = std::io::Error::from_raw_os_error(2);
        let outer = std::io::Error::other(inner);
        let failure = Failure::new("cannot read x").caused_by(outer).help("write x");
        let text = anstream::adapter::strip_str(&failure.render()).to_string();
        let expected =
            "error: cannot read x\n  because: No such file or directory (os error 2)\nhelp: write x\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_a_server_refuses_is_told_as_it_said_it() {
        let refused = proto::reason::refuse(Reason::PortTaken, "port 80 is taken");
        assert_eq!(Failure::from(refused).message, "port 80 is taken");
        let invalid = proto::reason::refuse(Reason::Invalid, "replicas: 10001 is too many");
        assert_eq!(Failure::from(invalid).code, Code::InvalidManifest);
    }
}
