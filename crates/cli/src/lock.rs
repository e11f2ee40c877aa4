//! Names that one process at a time may have on this machine.
//!
//! An abstract socket is a name that the kernel takes back when its owner ends, however it ends, and that is known in
//! one network namespace: which is where the bridges and firewall tables are that two would fight for. Source: unix(7).

use std::{
    io::{self, ErrorKind},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

/// Held until it is dropped. What this process starts does not inherit it.
#[derive(Debug)]
pub struct Lock {
    _name: UnixDatagram,
}

impl Lock {
    /// The one `wharf dev` of this machine.
    pub const DEV: &str = "wharf-dev";

    /// The one agent whose bridge and firewall table are called after this prefix.
    pub fn agent(prefix: &str) -> String {
        format!("wharf-agent-{prefix}")
    }

    /// None when another process has it.
    pub fn take(name: &str) -> io::Result<Option<Lock>> {
        let taken = SocketAddr::from_abstract_name(name).and_then(|name| UnixDatagram::bind_addr(&name));
        match taken {
            Ok(name) => Ok(Some(Lock { _name: name })),
            Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_until_its_owner_ends() {
        let name = format!("wharf-test-{}", std::process::id());
        let first = Lock::take(&name).expect("a name");
        assert!(first.is_some());
        assert!(Lock::take(&name).expect("a name").is_none());
        drop(first);
        assert!(Lock::take(&name).expect("a name").is_some());
    }
}
