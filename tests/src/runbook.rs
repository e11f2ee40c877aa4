//! The runbooks in `deploy`, followed line by line.

use std::{fs, path::Path, process::Command};

use crate::Several;

/// The commands of a runbook: what is indented by four columns more than the text, from this heading to the next.
pub fn commands(runbook: &str, heading: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(runbook);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let section = text.split(&format!("\n## {heading}\n")).nth(1);
    let section = section.unwrap_or_else(|| panic!("{runbook} has no section {heading:?}"));
    let section = section.split("\n## ").next().unwrap_or_default();
    let is_command = |line: &&str| line.starts_with("    ");
    let found: Vec<String> = section.lines().filter(is_command).map(|line| line.trim().to_owned()).collect();
    assert!(!found.is_empty(), "{runbook} has no commands in {heading:?}");
    found
}

/// Runs them as they stand, on the host of this daemon: its places are the test's, and systemctl is the test. A daemon is
/// started with `more` besides its own arguments, and a server is waited for until these vote.
pub fn follow(
    several: &mut Several,
    host: &str,
    commands: &[String],
    more: &[&str],
    voters: &[&str],
) -> String {
    let folder = several.folder().display().to_string();
    let bin = several.folder().join(format!("{host}.bin"));
    let wharf = bin.join("wharf");
    if !wharf.exists() {
        fs::create_dir_all(&bin).expect("a folder");
        std::os::unix::fs::symlink(several.program(host), &wharf).expect("a link");
        several.install(host, &wharf);
        fs::create_dir_all(several.folder().join("backup")).expect("a folder");
    }
    let server = if host.starts_with("server") { host } else { voters[0] };
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let places = [
        ("/var/lib/wharf/server", several.data(host)),
        ("/usr/local/bin/wharf", wharf.display().to_string()),
        ("/backup/", format!("{folder}/backup/")),
        ("/root/", format!("{folder}/")),
        ("10.0.0.1:7400", several.address("server1")),
    ];
    let mut said = String::new();
    for command in commands {
        match command.as_str() {
            // Agents here end what they run when they are told to stop, so they are not told.
            "systemctl stop wharf-server" | "systemctl stop wharf-agent" => several.kill(host),
            "systemctl start wharf-agent" => several.start_with(host, more),
            "systemctl start wharf-server" => {
                several.start_with(host, more);
                several.wait_for_voters(voters);
            }
            _ => {
                let here =
                    places.iter().fold(command.clone(), |line, (place, here)| line.replace(place, here));
                let mut shell = Command::new("bash");
                shell.args(["-euc", &here]).env("PATH", &path).env("WHARF_SOCKET", several.socket(server));
                let output = shell.output().expect("bash runs");
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                let told = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(output.status.success(), "{command}\n{here}\n{text}{told}{}", several.log(server));
                said.push_str(&text);
                said.push_str(&told);
            }
        }
    }
    said
}
