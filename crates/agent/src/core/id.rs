//! How one attempt at running a container is named, in the core, in the runtime and on disk alike.

use std::{fmt, str::FromStr};

use model::{Name, ReplicaId};

/// One attempt at running one container of a replica. Each restart is a new attempt, so that nothing that is
/// said about an old process can be taken for news of the new one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId {
    pub replica: ReplicaId,
    pub container: Name,
    /// Counted from 1 for ever; never used twice for two processes.
    pub attempt: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} does not name a container of wharf: expected <replica>.<container>.<attempt>")]
pub struct ContainerIdError(pub String);

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.replica, self.container, self.attempt)
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ContainerId {
    type Err = ContainerIdError;

    fn from_str(text: &str) -> Result<ContainerId, ContainerIdError> {
        let parts: Vec<&str> = text.split('.').collect();
        let parsed = match parts[..] {
            [replica, container, attempt] => {
                let numbers = replica.parse().ok().zip(attempt.parse().ok());
                numbers.zip(container.parse().ok())
            }
            _ => None,
        };
        match parsed {
            Some(((replica, attempt), container)) => Ok(ContainerId { replica, container, attempt }),
            None => Err(ContainerIdError(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let id = ContainerId { replica: ReplicaId(7), container: Name::new("main").unwrap(), attempt: 3 };
        assert_eq!(id.to_string(), "0000000000007.main.3");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in
            ["", "main.3", "0000000000007.main", "0000000000007.main.x", "0000000000007.Main.3", "a.b.c.d"]
        {
            assert!(bad.parse::<ContainerId>().is_err(), "{bad}");
        }
    }
}
