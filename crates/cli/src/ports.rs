//! Ports of this machine that something listens on already.
//!
//! wharf publishes a port by translating addresses, without listening itself: nothing refuses it a port that is taken,
//! and what listened there would silently get no connection any more. So it is looked for and told.

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
};

use manifest::Manifest;
use model::{Protocol, ServiceKey, ServiceSpec};

/// A port that a service publishes, and who listens on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub service: ServiceKey,
    pub port: u16,
    pub protocol: Protocol,
    /// Its name and process id, where they can be known.
    pub by: Option<(String, u32)>,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match &self.by {
            Some((name, pid)) => format!("{name} (process {pid})"),
            None => "another process".to_owned(),
        };
        let Taken { service, port, protocol, .. } = self;
        write!(
            f,
            "service {service} publishes port {port}/{}, on which {by} listens on this machine: its connections would go \
             to {service} instead",
            protocol.as_str()
        )
    }
}

/// The ports that these services publish and that something on this machine listens on.
pub fn taken<'a>(services: impl IntoIterator<Item = (&'a ServiceKey, &'a ServiceSpec)>) -> Vec<Taken> {
    let published = services.into_iter().flat_map(|(service, spec)| {
        let ports = spec.template.ports.iter();
        ports.filter_map(move |port| Some((service, port.publish?, port.protocol)))
    });
    let find = |(service, port, protocol): (&ServiceKey, u16, Protocol)| {
        let inodes = listeners(Path::new("/proc/net"), port, protocol);
        let by = owner(inodes.first()?);
        Some(Taken { service: service.clone(), port, protocol, by })
    };
    published.filter_map(find).collect()
}

/// The same for manifests.
pub fn taken_by(manifests: &[Manifest]) -> Vec<Taken> {
    taken(manifests.iter().map(|manifest| (&manifest.key, &manifest.spec)))
}

/// The sockets that listen on a port, by their inodes. Source: proc_pid_net(5).
fn listeners(folder: &Path, port: u16, protocol: Protocol) -> BTreeSet<String> {
    // TCP's LISTEN; a UDP socket that is bound and not connected has the number of CLOSE.
    let (files, wanted_state) = match protocol {
        Protocol::Tcp => (["tcp", "tcp6"], "0A"),
        Protocol::Udp => (["udp", "udp6"], "07"),
    };
    let suffix = format!(":{port:04X}");
    let listens = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?;
        (local.ends_with(&suffix) && state == wanted_state).then(|| inode.to_owned())
    };
    let text = |file: &str| fs::read_to_string(folder.join(file)).unwrap_or_default();
    files.iter().flat_map(|file| text(file).lines().filter_map(listens).collect::<Vec<_>>()).collect()
}

/// The process that holds a socket, as far as this one may look.
fn owner(inode: &String) -> Option<(String, u32)> {
    let wanted = PathBuf::from(format!("socket:[{inode}]"));
    let holds = |process: &fs::DirEntry| {
        let descriptors = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        descriptors.into_iter().any(|entry| fs::read_link(entry.path()).is_ok_and(|to| to == wanted))
    };
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let name = || fs::read_to_string(process.path().join("comm")).unwrap_or_default().trim().to_owned();
        holds(&process).then(|| (name(), pid))
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn a_listener_of_this_machine_is_found_with_its_name() {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let free =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let (tcp_port, udp_port) =
            (tcp.local_addr().expect("an address").port(), udp.local_addr().expect("an address").port());
        let text = format!(
            "apiVersion: wharf/v1\nkind: Service\nmetadata: {{name: web}}\nspec:\n  image: x\n  ports:\n  \
             - {{name: a, port: 1, publish: {tcp_port}}}\n  \
             - {{name: b, port: 2, protocol: udp, publish: {udp_port}}}\n  \
             - {{name: c, port: 3, publish: {free}}}\n"
        );
        let manifests = manifest::parse("test", &text).expect("a manifest");
        let found = taken_by(&manifests);
        let ports: Vec<(u16, Protocol)> = found.iter().map(|taken| (taken.port, taken.protocol)).collect();
        assert_eq!(ports, [(tcp_port, Protocol::Tcp), (udp_port, Protocol::Udp)]);
        assert!(
            found.iter().all(|taken| taken.by.as_ref().is_some_and(|(_, pid)| *pid == std::process::id())),
            "{found:?}"
        );
        assert!(found[0].to_string().contains(&format!("port {tcp_port}/tcp")), "{}", found[0]);
    }
}
