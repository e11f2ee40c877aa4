//! Dialogues with the core: each file in `tests/scripts` tells it what happens and shows what it then does.
//!
//! `UPDATE_GOLDENS=1 cargo test -p agent` writes the answers again; read them before committing. The commands are those
//! of [`dialogue::Dialogue::say`].

#![allow(clippy::unwrap_used)] // Clippy's exemption of tests does not reach the modules of an integration test.

mod dialogue;

use std::{fs, path::Path};

use dialogue::Dialogue;

#[test]
fn every_script_is_answered_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 10, "the scripts are missing");
    let mut wrong = Vec::new();
    for path in paths {
        let written = fs::read_to_string(&path).unwrap();
        let answered = play(&written);
        if std::env::var_os("UPDATE_GOLDENS").is_some() {
            fs::write(&path, answered).unwrap();
        } else if written != answered {
            wrong.push(format!("{}:\n{answered}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "answered otherwise than written:\n{}", wrong.join("\n"));
}

/// A script is blocks of command lines, each answered below a line of dashes; a blank line ends an answer.
fn play(script: &str) -> String {
    let mut dialogue = Dialogue::new();
    let mut text = String::new();
    for block in script.split("\n\n") {
        let (commands, _) = block.split_once("\n----").unwrap_or((block.trim_end(), ""));
        text.push_str(commands);
        let answers: Vec<String> = commands
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .flat_map(|line| dialogue.say(line))
            .collect();
        if !answers.is_empty() {
            text.push_str("\n----\n");
            text.push_str(&answers.join("\n"));
        }
        text.push_str("\n\n");
    }
    text.trim_end().to_owned() + "\n"
}
