//! Whose root a container's root is: each replica gets a user namespace, or a reason why it has none.
//!
//! In a user namespace root is nobody outside: what breaks out of the container has no rights on the host. Its range of host
//! ids follows from the replica's address, which no two live replicas share and which the ledger keeps over restarts.
//! Where a replica cannot have one it runs as it would without: that is told in its message, never done in silence.

use std::net::Ipv4Addr;

use image::User;
use model::{Assignment, Capabilities, ContainerSpec, Mount};
use network::Subnet;
use runtime::{Runtime, StartError, Trial};

use super::chain;
use crate::config::Config;

/// How many uids and gids a replica has; ids of images go up to 65,534, which is nobody.
pub(crate) const IDS: u32 = 65_536;

/// What a replica's users are on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Users {
    /// Users of its own: its root is this id of the host.
    Own(u32),
    /// The host's, because that is how the agent was told to do it.
    Hosts,
    /// The host's, because it cannot be otherwise.
    HostsInstead(String),
}

impl Users {
    pub(super) fn first_id(&self) -> Option<u32> {
        match self {
            Users::Own(first) => Some(*first),
            Users::Hosts | Users::HostsInstead(_) => None,
        }
    }

    /// For people, where it is not as they may expect.
    pub(super) fn note(&self) -> Option<String> {
        match self {
            Users::HostsInstead(reason) => {
                Some(format!("runs without a user namespace of its own: {reason}"))
            }
            Users::Own(_) | Users::Hosts => None,
        }
    }
}

/// What was found out once, when the agent began.
#[derive(Clone, Debug)]
pub(super) enum Policy {
    Hosts,
    HostsInstead(String),
    /// Ranges begin at this id.
    Own(u32),
}

impl Policy {
    pub(super) fn find(config: &Config, runtime: &Runtime) -> Policy {
        let Some(first) = config.user_namespaces else { return Policy::Hosts };
        match runtime.attempt(&Trial::Layers { dir: config.data_dir.clone() }) {
            Ok(()) => Policy::Own(first),
            Err(error) => {
                let reason = chain(&error);
                tracing::warn!(reason, "containers run without user namespaces; `wharf doctor` says more");
                Policy::HostsInstead(reason)
            }
        }
    }

    /// `users` are those that the replica's containers run as. An error is one of the launcher.
    pub(super) fn users(
        &self,
        runtime: &Runtime,
        assignment: &Assignment,
        users: &[&User],
        (subnet, address): (Subnet, Ipv4Addr),
    ) -> Result<Users, StartError> {
        let first = match self {
            Policy::Hosts => return Ok(Users::Hosts),
            Policy::HostsInstead(reason) => return Ok(Users::HostsInstead(reason.clone())),
            Policy::Own(first) => range(*first, subnet, address),
        };
        let Some(first) = first else {
            let reason = format!("subnet {subnet} has more addresses than there are ranges of ids");
            return Ok(Users::HostsInstead(reason));
        };
        let mut containers = assignment.template.containers();
        let asked = containers.find_map(beyond).or_else(|| users.iter().find_map(|user| outside(user)));
        if let Some(reason) = asked {
            return Ok(Users::HostsInstead(reason));
        }
        for source in assignment.template.containers().flat_map(host_paths) {
            match runtime.attempt(&Trial::Bind { source: source.into(), recursive: true }) {
                Ok(()) => {}
                Err(StartError::Failed(failure)) => {
                    let reason = format!("owners of files in {source} cannot be mapped ({})", failure.reason);
                    return Ok(Users::HostsInstead(reason));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Users::Own(first))
    }
}

/// The 65,536 ids that belong to an address: the two last numbers of addresses differ within a subnet of at most that many.
fn range(first: u32, subnet: Subnet, address: Ipv4Addr) -> Option<u32> {
    let start = (address.to_bits() & 0xffff).checked_mul(IDS)?.checked_add(first)?;
    // The last of all ids means "none" to the kernel.
    let fits = start.checked_add(IDS).is_some();
    Some(start).filter(|_| fits && subnet.prefix() >= 16)
}

/// A capability that was asked for and would mean nothing: the kernel wants it over the whole host, or over the network
/// namespace, which belongs to the host because it is made before anybody knows for whom.
fn beyond(container: &ContainerSpec) -> Option<String> {
    const WITHIN: [&str; 4] = ["DAC_READ_SEARCH", "IPC_OWNER", "LEASE", "SYS_PTRACE"];
    let within = |name: &str| Capabilities::DEFAULT.contains(&name) || WITHIN.contains(&name);
    let name = container.capabilities.add.iter().find(|name| !within(name))?;
    Some(format!("capability {name} of container {} has no effect in one", container.name))
}

fn outside(user: &User) -> Option<String> {
    let ids = [user.uid, user.gid].into_iter().chain(user.additional_gids.iter().copied());
    let id = ids.into_iter().find(|id| *id >= IDS)?;
    Some(format!("a container runs with id {id}, and one has ids below {IDS}"))
}

fn host_paths(container: &ContainerSpec) -> impl Iterator<Item = &str> {
    container.mounts.iter().filter_map(|mount| match mount {
        Mount::HostPath { source, .. } => Some(source.as_str()),
        Mount::Tmpfs { .. } => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::tests::container;

    #[test]
    fn ranges_of_a_subnet_do_not_meet() {
        let subnet: Subnet = "10.201.0.0/16".parse().unwrap();
        let start = |address: [u8; 4]| range(1_000_000, subnet, address.into());
        assert_eq!(start([10, 201, 0, 0]), Some(1_000_000));
        assert_eq!(start([10, 201, 0, 1]), Some(1_065_536));
        assert_eq!(start([10, 201, 1, 0]), Some(1_000_000 + 256 * 65_536));
        assert_eq!(start([10, 201, 255, 254]), None, "ids end before that");
        assert_eq!(range(1_000_000, "10.0.0.0/15".parse().unwrap(), [10, 1, 0, 1].into()), None);
    }

    #[test]
    fn what_would_have_no_effect_is_noticed() {
        let mut asks = container("main");
        assert_eq!(beyond(&asks), None);
        asks.capabilities.add.extend(["SYS_PTRACE".to_owned(), "CHOWN".to_owned()]);
        assert_eq!(beyond(&asks), None);
        asks.capabilities.add.insert("NET_ADMIN".into());
        assert_eq!(beyond(&asks).unwrap(), "capability NET_ADMIN of container main has no effect in one");
        let user = |uid| User { uid, gid: 0, additional_gids: vec![65_535], home: "/".into() };
        assert_eq!(outside(&user(65_534)), None);
        assert!(outside(&user(70_000)).is_some_and(|reason| reason.contains("70000")));
    }
}
