//! What connects the hosts: one more network of sandboxes on this machine, in which each host is one.
//!
//! So it comes with what sandboxes have: a way out through this machine, addresses that nobody else can use, names that
//! the next run finds everything by, whatever became of this one. Where it keeps them is one place for the whole machine,
//! because one `wharf dev` runs at a time.

use std::{
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use network::{Config, Network, Subnet};

use super::form;
use crate::{
    exit::Failure,
    lock::Lock,
    output::progress::{Progress, Step},
};

const NAME: &str = "wharfdev";
const STATE: &str = "/run/wharf/hosts";
/// Where host 1 is in the subnet, less one: the first address is this machine's.
const BEFORE_FIRST: u8 = 10;
/// How long agents of an earlier run may still stop their containers.
const EARLIER: Duration = Duration::from_secs(120);

/// Subnets to choose from, of 254 addresses each.
fn candidates() -> impl Iterator<Item = Subnet> {
    (77..=99).filter_map(|number| Subnet::containing(Ipv4Addr::new(10, number, 0, 0), 24))
}

/// The network of the cluster in `data`: with the addresses that it had before, since servers are known by theirs; for a
/// new cluster with some that this machine does not use.
pub fn open(data: &Path) -> Result<(Network, Subnet), Failure> {
    let remembered = data.join("subnet");
    match fs::read_to_string(&remembered) {
        Ok(text) => {
            let subnet = text.trim().parse();
            let subnet: Subnet = subnet.map_err(|error| {
                Failure::new(format!("{} is damaged", remembered.display())).caused_by(error)
            })?;
            let lan = Network::open(config(subnet)).map_err(|error| {
                let help = "--fresh begins a new cluster, with other addresses";
                unusable(error)
                    .because(format!("the hosts in {} have addresses of {subnet}", data.display()))
                    .help(help)
            })?;
            Ok((lan, subnet))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (lan, subnet) = open_free()?;
            let write = || {
                fs::create_dir_all(data)?;
                fs::write(&remembered, format!("{subnet}\n"))
            };
            write().map_err(|error| {
                Failure::new(format!("cannot write {}", remembered.display())).caused_by(error)
            })?;
            Ok((lan, subnet))
        }
        Err(error) => Err(Failure::new(format!("cannot read {}", remembered.display())).caused_by(error)),
    }
}

fn open_free() -> Result<(Network, Subnet), Failure> {
    let mut taken = Failure::new("no addresses are left for hosts");
    for subnet in candidates() {
        match Network::open(config(subnet)) {
            Ok(lan) => return Ok((lan, subnet)),
            Err(error @ network::Error::Overlap { .. }) => taken = taken.because(error.to_string()),
            Err(error) => return Err(unusable(error)),
        }
    }
    Err(taken)
}

fn config(subnet: Subnet) -> Config {
    Config::new(NAME, subnet, STATE)
}

pub fn address(subnet: Subnet, host: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(subnet.network().to_bits() | u32::from(BEFORE_FIRST + host))
}

/// Takes away the hosts of an earlier run that are not these.
pub fn keep_only(lan: &Network, wanted: &[(String, Ipv4Addr)]) -> Result<(), Failure> {
    for host in lan.sandboxes().map_err(unusable)? {
        if !wanted.contains(&host) {
            lan.remove_sandbox(&host.0).map_err(unusable)?;
        }
    }
    Ok(())
}

/// The host's network namespace.
pub fn connect(lan: &Network, name: &str, address: Ipv4Addr) -> Result<PathBuf, Failure> {
    Ok(lan.create_sandbox(name, address).map_err(unusable)?.netns)
}

pub fn remove(lan: &Network) -> Result<(), Failure> {
    lan.teardown().map_err(|error| Failure::new("the hosts cannot be removed").caused_by(error))
}

/// Removes what a run left that was killed, for one that needs no hosts.
pub fn remove_earlier() -> Result<(), Failure> {
    if Path::new(STATE).exists() { remove(&open_free()?.0) } else { Ok(()) }
}

/// After a `wharf dev` that was killed, or that did not want to wait, its agents still stop what ran.
pub async fn wait_for_earlier() -> Result<(), Failure> {
    let failed = |error| Failure::new("the hosts of an earlier run cannot be looked at").caused_by(error);
    let began = Instant::now();
    let mut progress = Progress::new();
    let headline = "agents of an earlier run still stop their containers; waiting for their end".to_owned();
    for (name, netns) in network::standing(Path::new(STATE)).map_err(failed)? {
        let lock = Lock::agent(&form::prefix(&name));
        while network::visit(&netns, || Lock::take(&lock)).map_err(failed)?.map_err(failed)?.is_none() {
            if began.elapsed() > EARLIER {
                return Err(Failure::new(format!("an agent of an earlier run does not end on {name}"))
                    .help(format!("nsenter --net={} ss -lxp tells its process", netns.display())));
            }
            progress.show("wharf", &Step { headline: headline.clone(), detail: None });
            tokio::time::sleep(Progress::TICK).await;
        }
    }
    Ok(())
}

fn unusable(error: network::Error) -> Failure {
    Failure::new("the network of the hosts cannot be made").caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_addresses_that_tell_their_number() {
        let subnet = candidates().next().expect("a candidate");
        assert_eq!(address(subnet, 1).to_string(), "10.77.0.11");
        assert!((1..=9).all(|host| subnet.is_usable(address(subnet, host))));
    }
}
