//! The name of a container, safe as a file name and as a cgroup name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// 1 to 100 of `a-z`, `0-9`, `.` and `-`; not only dots, so that it never means a directory above.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

/// The text is no container id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no container id: 1 to 100 of a-z, 0-9, `.` and `-`, and not only dots")]
pub struct InvalidId(pub String);

impl ContainerId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<ContainerId, InvalidId> {
        ContainerId::try_from(text.to_owned())
    }
}

impl TryFrom<String> for ContainerId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<ContainerId, InvalidId> {
        let allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'.' || byte == b'-';
        let fits = (1..=100).contains(&text.len()) && text.bytes().all(allowed);
        if fits && text.bytes().any(|byte| byte != b'.') {
            Ok(ContainerId(text))
        } else {
            Err(InvalidId(text))
        }
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> String {
        id.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_safe_names_are_ids() {
        for good in ["web.3-main", "a", "0", "a..b", &"x".repeat(100)] {
            assert!(good.parse::<ContainerId>().is_ok(), "{good} should be an id");
        }
        for bad in ["", ".", "..", "a/b", "Web", "a b", "a\n", "ä", &"x".repeat(101)] {
            assert!(bad.parse::<ContainerId>().is_err(), "{bad:?} should not be an id");
        }
    }
}
