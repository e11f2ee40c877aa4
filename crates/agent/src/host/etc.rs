//! The files that a container does not have from its image: who it is, who its neighbours are, whom to ask for names.

use std::{fs, net::Ipv4Addr, path::Path};

use model::{Assignment, ReplicaId};

use super::{Host, HostError, make_dir};
use crate::compile::EtcFiles;

impl Host {
    pub(super) fn write_etc(
        &self,
        assignment: &Assignment,
        address: Ipv4Addr,
    ) -> Result<EtcFiles, HostError> {
        let dir = self.etc_dir(assignment.replica);
        make_dir(&dir)?;
        let name = assignment.hostname();
        let files = EtcFiles {
            hosts: dir.join("hosts"),
            hostname: dir.join("hostname"),
            resolv_conf: dir.join("resolv.conf"),
        };
        write(&files.hosts, &hosts(address, &name))?;
        write(&files.hostname, &format!("{name}\n"))?;
        write(&files.resolv_conf, &resolv_conf(host_resolvers().as_deref().unwrap_or_default()))?;
        Ok(files)
    }

    /// Writes the files again if somebody emptied the run directory since the replica was prepared.
    pub(super) fn restore_etc(&self, assignment: &Assignment, address: Ipv4Addr) -> Result<(), HostError> {
        match self.etc_dir(assignment.replica).join("hosts").exists() {
            true => Ok(()),
            false => self.write_etc(assignment, address).map(drop),
        }
    }

    pub(super) fn etc_dir(&self, replica: ReplicaId) -> std::path::PathBuf {
        self.config.replicas_dir().join(replica.to_string())
    }
}

fn write(path: &Path, text: &str) -> Result<(), HostError> {
    // In place: a container that runs has this very file mounted.
    fs::write(path, text).map_err(|source| HostError::Write { path: path.to_owned(), source })
}

fn hosts(address: Ipv4Addr, name: &str) -> String {
    format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{address}\t{name}\n")
}

/// Of the host; systemd-resolved's real list where the usual file only names its stub.
fn host_resolvers() -> Option<String> {
    let usual = fs::read_to_string("/etc/resolv.conf").ok()?;
    let only_stub = !resolv_conf(&usual).contains("nameserver");
    let real = || fs::read_to_string("/run/systemd/resolve/resolv.conf").ok();
    if only_stub { real().or(Some(usual)) } else { Some(usual) }
}

/// Without what cannot work inside: resolvers on the host's own loopback.
fn resolv_conf(host: &str) -> String {
    let works = |line: &&str| match line.trim().strip_prefix("nameserver") {
        Some(server) => !server.trim().starts_with("127.") && server.trim() != "::1",
        None => !line.trim_start().starts_with(['#', ';']),
    };
    host.lines().filter(works).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_on_the_loopback_are_left_out() {
        let host = "# comment\nnameserver 127.0.0.53\nnameserver 10.0.0.2\n nameserver ::1\nsearch corp\noptions edns0\n";
        assert_eq!(resolv_conf(host), "nameserver 10.0.0.2\nsearch corp\noptions edns0\n");
        assert_eq!(resolv_conf(""), "");
    }

    #[test]
    fn a_replica_finds_itself_by_name() {
        assert!(hosts([10, 0, 0, 7].into(), "web-3").ends_with("10.0.0.7\tweb-3\n"));
    }
}
