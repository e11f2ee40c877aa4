//! What the README says of several hosts on one machine, line by line, as a reader would type it.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use tests::{Cluster, program};

/// The shell's lines below a heading.
fn commands<'a>(readme: &'a str, heading: &str) -> Vec<&'a str> {
    let section = readme.split(&format!("\n## {heading}\n")).nth(1);
    let section = section.and_then(|rest| rest.split("\n## ").next()).unwrap_or_default();
    let blocks = section.split("```").skip(1).step_by(2).filter(|block| block.starts_with("sh\n"));
    blocks.flat_map(|block| block.lines().skip(1)).filter(|line| !line.is_empty()).collect()
}

#[test]
fn every_line_about_several_hosts_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = fs::read_to_string(root.join("README.md")).expect("the README");
    let commands = commands(&readme, "Several hosts");
    let Some((start, rest)) = commands.split_first() else { panic!("no commands in {readme}") };
    let arguments = start.strip_prefix("wharf dev ").expect("it begins with a cluster");
    let arguments: Vec<&str> = arguments.split('#').next().unwrap_or_default().split_whitespace().collect();
    let manifest = root.join("manifests/hello.yaml").display().to_string();
    let arguments: Vec<&str> = arguments
        .into_iter()
        .map(|word| if word == "manifests/hello.yaml" { &manifest } else { word })
        .collect();

    let cluster = Cluster::start_with(&arguments);
    cluster.wait_until_it_says("Ctrl-C stops everything");
    let bin = cluster.folder().join("bin");
    fs::create_dir(&bin).expect("a folder");
    symlink(fs::canonicalize(program()).expect("the program"), bin.join("wharf")).expect("a link");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    assert!(rest.len() > 4, "{rest:#?}");
    for command in rest {
        let here = command.replace("/var/lib/wharf", &cluster.data().display().to_string());
        let mut shell = Command::new("bash");
        shell.args(["-o", "pipefail", "-c", &here]).env("PATH", &path).env("WHARF_SOCKET", cluster.socket());
        let output = shell.current_dir(&root).output().expect("bash");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}\n{told}\n{}", cluster.log("dev.log"));
    }
    cluster.end();
}
