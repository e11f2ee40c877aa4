//! Hosts of `wharf dev --nodes`: each a network namespace of this machine, with an address and a name of its own.
//!
//! What makes them hosts is only where their daemons are started. The daemons themselves are told what those of real
//! hosts are told: one founds a cluster, the others join it with tokens and speak TLS ([`form`]). Data, sockets and
//! control groups are kept apart by the daemons' own options; users of containers, because no two subnets of the nodes
//! have addresses that end alike. Start reading at [`Hosts::open`].

mod form;
mod lan;

use std::{
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use network::Network;

pub use self::lan::{remove_earlier, wait_for_earlier};
use super::place::Place;
use crate::{args::Global, exit::Failure, membership::trust_dir};

/// Where the hosts keep everything, below the data folder of `wharf dev`: beside what it keeps of this machine alone.
pub const FOLDER: &str = "hosts";

/// Whose loss a cluster of this many hosts survives follows from it: three servers can lose one. Two can lose none, and
/// there are two whose loss stops everything; so two hosts have one.
fn servers_among(hosts: u8) -> u8 {
    if hosts < 3 { 1 } else { 3 }
}

/// The hosts of one cluster, the first one first.
pub struct Hosts {
    all: Vec<Host>,
    lan: Network,
}

pub struct Host {
    pub name: String,
    pub address: Ipv4Addr,
    /// Whether it has a server beside its agent.
    serves: bool,
    place: Place,
    /// What would be its disk.
    data: PathBuf,
    /// What would be its `/run/wharf`.
    run: PathBuf,
    /// Where its server is reached from this machine.
    socket: PathBuf,
}

impl Hosts {
    /// Makes that many, or takes over those that an earlier run left; `data` is that of `wharf dev`.
    pub fn open(global: &Global, data: &Path, count: u8) -> Result<Hosts, Failure> {
        let data = data.join(FOLDER);
        let (lan, subnet) = lan::open(&data)?;
        let addresses = (1..=count).map(|number| (number, lan::address(subnet, number)));
        let wanted: Vec<(String, Ipv4Addr)> =
            addresses.clone().map(|(number, address)| (name(number), address)).collect();
        lan::keep_only(&lan, &wanted)?;
        let all = addresses.map(|(number, address)| {
            let netns = lan::connect(&lan, &name(number), address)?;
            Host::prepare(global, &data, (number, address), netns, servers_among(count))
        });
        Ok(Hosts { all: all.collect::<Result<_, _>>()?, lan })
    }

    pub fn first(&self) -> &Host {
        &self.all[0]
    }

    /// A line for each, for people.
    pub fn lines(&self) -> Vec<String> {
        let roles = |host: &Host| if host.serves { "server and agent" } else { "agent" };
        self.all.iter().map(|host| format!("  {}  {}  {}", host.name, host.address, roles(host))).collect()
    }

    /// Takes the hosts away again; their disks are kept. Nothing may run on them any more.
    pub fn remove(self) -> Result<(), Failure> {
        for host in &self.all {
            remove_file(&host.way_in())?;
        }
        lan::remove(&self.lan)
    }
}

impl Host {
    fn prepare(
        global: &Global,
        data: &Path,
        (number, address): (u8, Ipv4Addr),
        netns: PathBuf,
        servers: u8,
    ) -> Result<Host, Failure> {
        let name = name(number);
        let data = data.join(&name);
        let run = global.socket.parent().unwrap_or(Path::new("/run/wharf")).join(&name);
        for folder in [&data, &run] {
            fs::create_dir_all(folder).map_err(|error| {
                Failure::new(format!("cannot make {}", folder.display())).caused_by(error)
            })?;
        }
        let socket = if number == 1 { global.socket.clone() } else { run.join("wharf.sock") };
        // One that an earlier run made a server has a vote, which the others may need.
        let serves = number <= servers || trust_dir(&data.join("server")).exists();
        let host = Host {
            address,
            serves,
            data,
            run,
            socket,
            place: Place::Host { name: name.clone(), netns },
            name,
        };
        host.leave_way_in()?;
        Ok(host)
    }

    /// A name of its namespace that people can remember, and give to nsenter(1).
    fn way_in(&self) -> PathBuf {
        self.data.join("netns")
    }

    fn leave_way_in(&self) -> Result<(), Failure> {
        let Place::Host { netns, .. } = &self.place else { return Ok(()) };
        let link = self.way_in();
        remove_file(&link)?;
        std::os::unix::fs::symlink(netns, &link)
            .map_err(|error| Failure::new(format!("cannot make {}", link.display())).caused_by(error))
    }
}

fn name(number: u8) -> String {
    format!("host-{number}")
}

fn remove_file(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::new(format!("cannot remove {}", path.display())).caused_by(error))
        }
        _ => Ok(()),
    }
}
