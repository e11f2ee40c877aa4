//! What `dev` starts: this program, with other arguments, on this machine or on one of the hosts in it.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

use crate::exit::Failure;

/// How much of a log is told.
const LAST_WORDS: usize = 4;

/// Where a program runs.
#[derive(Clone, Debug)]
pub enum Place {
    Machine,
    /// In this network namespace, under this host name.
    Host {
        name: String,
        netns: PathBuf,
    },
}

/// This program, as it is to be started.
#[derive(Clone, Debug)]
pub struct Program {
    pub place: Place,
    pub args: Vec<OsString>,
    /// What it joins a cluster with.
    pub token: Option<String>,
    /// Where its output is appended to.
    pub log: PathBuf,
}

impl Program {
    pub fn new(place: &Place, words: &[&str], options: &[(&str, &OsStr)], log: &Path) -> Program {
        let words = words.iter().map(OsString::from);
        let options = options.iter().flat_map(|(name, value)| [OsString::from(name), (*value).to_owned()]);
        Program {
            place: place.clone(),
            args: words.chain(options).collect(),
            token: None,
            log: log.to_owned(),
        }
    }

    pub fn command(&self) -> Result<Command, Failure> {
        let failed = |error| Failure::new("the program cannot be started again").caused_by(error);
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        // A group of its own: Ctrl-C in the terminal is for `dev` alone, which stops the others in order.
        command.args(&self.args).process_group(0).stdin(Stdio::null());
        command.envs(self.token.iter().map(|token| ("WHARF_JOIN_TOKEN", token)));
        command.stdout(self.log_file()?).stderr(self.log_file()?);
        if let Place::Host { name, netns } = &self.place {
            let moved = network::move_in(command.as_std_mut(), netns, name);
            moved.map_err(|error| Failure::new(format!("{name} cannot be entered")).caused_by(error))?;
        }
        Ok(command)
    }

    fn log_file(&self) -> Result<Stdio, Failure> {
        let file = fs::OpenOptions::new().create(true).append(true).open(&self.log);
        let failed = |error| Failure::new(format!("cannot write {}", self.log.display())).caused_by(error);
        file.map(Stdio::from).map_err(failed)
    }

    /// How long its log is.
    pub fn log_length(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |log| log.len())
    }

    /// What it said last, of what its log has after this many bytes.
    pub fn last_words(&self, after: u64) -> Vec<String> {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let new = bytes.get(after as usize..).unwrap_or(&bytes);
        let text = String::from_utf8_lossy(new);
        let lines: Vec<&str> = text.lines().collect();
        // The error of its end, if it told one, and else what it said last.
        let error = lines.iter().rposition(|line| line.starts_with("error: "));
        let from = error.unwrap_or(lines.len().saturating_sub(LAST_WORDS));
        let bare = |line: &&str| {
            line.trim().trim_start_matches("error: ").trim_start_matches("because: ").to_owned()
        };
        lines[from..].iter().take(LAST_WORDS).map(bare).collect()
    }
}
