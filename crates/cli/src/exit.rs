//! How a command ends: the exit codes that CI relies on, and errors printed once, whole, at the edge.

use std::{error::Error, process::ExitCode};

use anstream::eprintln;
use owo_colors::OwoColorize;

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
    cause: Option<Box<dyn Error + Send + Sync>>,
    help: Option<String>,
    code: Code,
}

impl Failure {
    pub fn new(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), cause: None, help: None, code: Code::UsageOrConnection }
    }

    pub fn caused_by(self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        Failure { cause: Some(cause.into()), ..self }
    }

    /// What to do about it.
    pub fn help(self, help: impl Into<String>) -> Failure {
        Failure { help: Some(help.into()), ..self }
    }

    pub fn code(self, code: Code) -> Failure {
        Failure { code, ..self }
    }

    /// Prints the failure and every cause below it, each on a line of its own.
    pub fn report(&self) -> ExitCode {
        eprintln!("{} {}", "error:".red().bold(), self.message);
        let mut cause: Option<&(dyn Error + 'static)> = self.cause.as_deref().map(|cause| cause as _);
        while let Some(error) = cause {
            eprintln!("  {} {error}", "because:".dimmed());
            cause = error.source();
        }
        if let Some(help) = &self.help {
            eprintln!("{} {help}", "help:".cyan());
        }
        self.code.into()
    }
}

impl From<tonic::Status> for Failure {
    /// A server's refusal says what, why and what to do by itself.
    fn from(status: tonic::Status) -> Failure {
        Failure::new(status.message())
    }
}

/// Usage errors as clap words them, with its suggestions, but with our exit code.
pub fn usage(error: &clap::Error) -> ExitCode {
    // Fails only when the terminal is gone.
    let _ = error.print();
    if error.use_stderr() { Code::UsageOrConnection.into() } else { Code::Done.into() }
}
