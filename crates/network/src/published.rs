//! What is published: ports of the host, and who answers them.

use std::{fmt, net::Ipv4Addr};

use crate::{
    error::Error,
    firewall::services::{Service, Services},
};

/// What a port belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    /// As the IP header has it.
    pub(crate) fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// A port of the host, and the sandboxes that take its connections in turn. Without backends, connections are
/// refused at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    pub port: u16,
    pub protocol: Protocol,
    /// Address and port of each; order and repetition have no meaning.
    pub backends: Vec<(Ipv4Addr, u16)>,
}

/// The same as a map, or what is wrong with it.
pub(crate) fn services(published: &[Published]) -> Result<Services, Error> {
    let mut services = Services::new();
    for Published { port, protocol, backends } in published {
        let (port, protocol) = (*port, *protocol);
        if port == 0 {
            return Err(Error::PortZero { protocol });
        }
        let mut backends = backends.clone();
        backends.sort_unstable();
        backends.dedup();
        if services.insert(Service { protocol, port }, backends).is_some() {
            return Err(Error::PublishedTwice { port, protocol });
        }
    }
    Ok(services)
}
