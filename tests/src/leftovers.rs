//! What a cluster must not leave behind, as an administrator would look for it.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

/// What there was on the host at one moment.
#[derive(Clone, Debug, Default)]
pub struct Host {
    links: BTreeSet<String>,
    tables: BTreeSet<String>,
    mounts: BTreeSet<String>,
    cgroups: BTreeSet<String>,
    processes: BTreeSet<(i32, String)>,
}

#[derive(Clone, Debug)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    pub command: String,
}

impl Host {
    pub fn look() -> Host {
        Host {
            links: output("ip", &["-o", "link"])
                .lines()
                .filter_map(|line| Some(line.split(": ").nth(1)?.to_owned()))
                .collect(),
            tables: output("nft", &["list", "tables"]).lines().map(str::to_owned).collect(),
            mounts: fs::read_to_string("/proc/self/mounts")
                .unwrap_or_default()
                .lines()
                .map(str::to_owned)
                .collect(),
            cgroups: cgroups(),
            processes: processes().into_iter().map(|process| (process.pid, process.command)).collect(),
        }
    }

    /// What is here and was not there before, as far as it can be wharf's.
    pub fn since(&self, before: &Host, folder: &Path) -> Vec<String> {
        let folder = folder.display().to_string();
        let new = |now: &BTreeSet<String>, then: &BTreeSet<String>, what: &str| {
            now.difference(then).map(|item| format!("{what} {item}")).collect::<Vec<_>>()
        };
        let mut left = new(&self.links, &before.links, "link");
        left.extend(new(&self.tables, &before.tables, "nftables"));
        left.extend(new(&self.mounts, &before.mounts, "mount"));
        left.extend(new(&self.cgroups, &before.cgroups, "cgroup"));
        let ours = |command: &str| {
            command.starts_with("wharf-") || command.starts_with("/wharf ") || command.contains(&folder)
        };
        let processes = self.processes.difference(&before.processes).filter(|(_, command)| ours(command));
        left.extend(processes.map(|(pid, command)| format!("process {pid} {command}")));
        left
    }
}

fn output(program: &str, args: &[&str]) -> String {
    let output =
        Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The control groups below which a cluster keeps its own.
fn cgroups() -> BTreeSet<String> {
    let listed = Command::new("find")
        .args([
            "/sys/fs/cgroup",
            "-type",
            "d",
            "(",
            "-name",
            "wharf",
            "-o",
            "-name",
            "wht?",
            "-o",
            "-name",
            "wharf-?",
            ")",
        ])
        .output();
    let listed =
        listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    listed.lines().map(str::to_owned).collect()
}

pub fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| read_process(entry.ok()?.file_name().to_str()?.parse().ok()?)).collect()
}

fn read_process(pid: i32) -> Option<Process> {
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name in parentheses, which may hold anything: state, then the parent.
    let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
    Some(Process { pid, parent, command })
}
