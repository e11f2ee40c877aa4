//! The program as users run it, against a server that says what a test wants: no cluster, no root, no host.

mod errors;
mod output;
mod server;
mod waiting;

use std::{
    path::Path,
    process::{Command, Stdio},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_wharf");

/// What a command printed and how it ended.
#[derive(Clone, Debug)]
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

fn command(socket: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    for variable in [
        "WHARF_NAMESPACE",
        "WHARF_CONTEXT",
        "WHARF_TOKEN",
        "WHARF_CONFIG",
        "NO_COLOR",
        "CLICOLOR",
        "CLICOLOR_FORCE",
    ] {
        command.env_remove(variable);
    }
    command.args(args).env("WHARF_SOCKET", socket).stdin(Stdio::null());
    command
}

/// Runs the program to its end, in pipes.
fn wharf(socket: &Path, args: &[&str]) -> Ended {
    ended(command(socket, args).output().expect("the program runs"))
}

fn ended(output: std::process::Output) -> Ended {
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
