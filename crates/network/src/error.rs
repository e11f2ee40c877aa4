//! Why the network could not do what it was asked.

use std::{io, net::Ipv4Addr, path::PathBuf};

use crate::{Peer, Protocol, Subnet, config::ConfigError, namespace::NamespaceError, netlink};

/// Why the network could not do what it was asked. The chain of sources says what the kernel said.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the network's configuration cannot be used")]
    Config(#[from] ConfigError),
    #[error(
        "the subnet {subnet} overlaps {other}, to which this host has a route through {link}: choose another \
         subnet for this node"
    )]
    Overlap { subnet: Subnet, other: Subnet, link: String },
    #[error(
        "the subnet {} of the host {} overlaps {other}, which is reached elsewhere: its sandboxes cannot be reached",
        .peer.subnet, .peer.address
    )]
    PeerOverlap { peer: Peer, other: Subnet },
    #[error("this host has no address for others to send to, so its sandboxes cannot be joined with theirs")]
    NoOverlay,
    #[error(
        "a link named {name} exists that was not made for replicas: choose another network name or remove the link"
    )]
    NameTaken { name: String },
    #[error("the bridge {name} disappeared while it was set up")]
    BridgeLost { name: String },
    #[error("the link {name} disappeared while it was set up: does another program remove links here?")]
    LinkLost { name: String },
    #[error("could not set {path} to {value}: is /proc/sys writable?", path = .path.display())]
    Sysctl { path: PathBuf, value: &'static str, source: io::Error },
    #[error("could not use the directory of sandboxes, {path}", path = .path.display())]
    StateDir { path: PathBuf, source: io::Error },
    #[error("`{0}` cannot be a sandbox's id: use up to 200 letters, digits, dashes, dots and underscores")]
    Id(String),
    #[error("{address} cannot be a sandbox's address: the sandboxes' subnet is {subnet}")]
    Address { address: Ipv4Addr, subnet: Subnet },
    #[error("{address} is the address of sandbox `{holder}` and cannot be given to `{id}` as well")]
    AddressTaken { address: Ipv4Addr, holder: String, id: String },
    #[error("sandbox `{id}` exists with the address {has}, not {wanted}: remove it first")]
    Exists { id: String, has: Ipv4Addr, wanted: Ipv4Addr },
    #[error("port {port}/{protocol} is published twice: one service can have it")]
    PublishedTwice { port: u16, protocol: Protocol },
    #[error("port 0/{protocol} cannot be published: choose a port between 1 and 65535")]
    PortZero { protocol: Protocol },
    #[error("could not make a network namespace for a sandbox")]
    Namespace(#[from] NamespaceError),
    #[error("could not enter the network namespace of a sandbox")]
    Visit(#[source] io::Error),
    #[error("could not draw random bytes")]
    Random(#[source] io::Error),
    #[error("could not start the thread that keeps sandboxes ready")]
    Thread(#[source] io::Error),
    #[error("could not change the host's network")]
    Netlink(#[from] netlink::Error),
}
