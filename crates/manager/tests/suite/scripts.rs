//! Dialogues with servers: `scripts/*.txt` say what happens and what the servers do.
//!
//! A script is blocks of lines, `----`, and what they print up to the next empty line. `UPDATE_GOLDENS=1` writes the
//! answers anew; read them before they are committed. The commands are in `script.rs`.

use std::{fs, path::Path};

use crate::script::Script;

#[test]
fn scripts_answer_as_written() {
    let update = std::env::var_os("UPDATE_GOLDENS").is_some();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 30, "the scripts are in {}", folder.display());
    let mut differing = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let answered = run(&name, &text);
        if answered == text {
            continue;
        }
        if update {
            fs::write(&path, &answered).unwrap();
        } else {
            differing.push(format!("{name} answers now:\n{answered}"));
        }
    }
    assert!(differing.is_empty(), "{}\n(UPDATE_GOLDENS=1 writes them)", differing.join("\n"));
}

/// The script with the answers that it gets now.
fn run(name: &str, text: &str) -> String {
    let mut script = Script::new();
    let mut answered = String::new();
    let mut is_answer = false;
    for (number, line) in text.lines().enumerate() {
        match line.trim_end() {
            "----" => {
                answered.push_str("----\n");
                answered.push_str(&script.cluster.printer.take());
                is_answer = true;
            }
            "" => {
                is_answer = false;
                answered.push('\n');
            }
            _ if is_answer => {}
            line => {
                answered.push_str(line);
                answered.push('\n');
                if !line.starts_with('#') {
                    script.line(line, &format!("{name}:{}", number + 1));
                }
            }
        }
    }
    assert_eq!(script.cluster.printer.take(), "", "{name}: the last block has no answer; end it with ----");
    answered
}
