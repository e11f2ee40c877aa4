//! The tour of the README, line by line, as a reader would type it.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use tests::{Cluster, cluster::program};

#[test]
fn every_line_of_the_tour_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = fs::read_to_string(root.join("README.md")).expect("the README");
    let tour = readme.split("## Five minutes").nth(1).and_then(|rest| rest.split("\n## ").next());
    let lines: Vec<&str> =
        tour.expect("the tour").split("```").skip(1).step_by(2).flat_map(str::lines).collect();
    let commands: Vec<&str> = lines.into_iter().filter(|line| !line.is_empty() && *line != "sh").collect();
    assert!(commands.len() > 15, "{commands:#?}");

    let cluster = Cluster::start();
    let bin = cluster.folder().join("bin");
    fs::create_dir(&bin).expect("a folder");
    symlink(fs::canonicalize(program()).expect("the program"), bin.join("wharf")).expect("a link");
    let hello = root.join("manifests/hello.yaml");
    cluster.ok(&["apply", "--wait", "-f", hello.to_str().expect("UTF-8")]);
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let mut told = String::new();
    for command in commands.iter().filter(|command| !command.starts_with("export PATH")) {
        let output = Command::new("bash")
            .args(["-o", "pipefail", "-c", command])
            .current_dir(&root)
            .env("PATH", &path)
            .env("WHARF_SOCKET", cluster.socket())
            .output()
            .expect("bash");
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}\n{text}\nagent: {}", cluster.log("agent.log"));
        told.push_str(&format!("$ {command}\n{text}"));
    }
    for expected in ["version 2", "exit code 3", "rolled-back", "killed by SIGKILL"] {
        assert!(told.contains(expected), "{expected:?} is nowhere in\n{told}");
    }
    cluster.end();
}
