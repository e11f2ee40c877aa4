//! What is remembered of a sandbox across restarts: one file name, on which its namespace is mounted.
//!
//! `<state_dir>/<id>@<address>@<port>`: the namespace, the address in it and the host's end of its cable. The
//! mount is the last step of making a sandbox. So a file with a namespace is a whole sandbox, and a file
//! without one is what a crash left.

use std::{
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use crate::namespace::{is_pinned, unpin};

const SEPARATOR: char = '@';
const LONGEST_ID: usize = 200;

/// A sandbox as its file name tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pin {
    pub(crate) id: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) port: String,
}

impl Pin {
    pub(crate) fn path(&self, state_dir: &Path) -> PathBuf {
        state_dir.join(format!("{}{SEPARATOR}{}{SEPARATOR}{}", self.id, self.address, self.port))
    }

    fn parse(name: &str) -> Option<Pin> {
        let mut parts = name.splitn(3, SEPARATOR);
        let (id, address, port) = (parts.next()?, parts.next()?, parts.next()?);
        let pin = Pin { id: id.to_string(), address: address.parse().ok()?, port: port.to_string() };
        (is_valid_id(id) && !port.is_empty()).then_some(pin)
    }
}

/// Whether an id can be part of a file name.
pub(crate) fn is_valid_id(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !id.is_empty() && id.len() <= LONGEST_ID && !id.starts_with('.') && id.bytes().all(allowed)
}

/// The sandboxes that stand; files that a crash left without a namespace are removed.
pub(crate) fn adopt(state_dir: &Path) -> io::Result<Vec<Pin>> {
    let mut pins = Vec::new();
    for pin in files(state_dir)? {
        let path = pin.path(state_dir);
        if is_pinned(&path) {
            pins.push(pin);
        } else {
            unpin(&path)?;
        }
    }
    Ok(pins)
}

/// The sandboxes that stand in `state_dir`, by their ids, with the paths of their namespaces: also those that no
/// [`Network`](crate::Network) has opened. A directory that is not there has none.
pub fn standing(state_dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let pins = match files(state_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        found => found?,
    };
    let with_path = |pin: Pin| (pin.path(state_dir), pin.id);
    Ok(pins
        .into_iter()
        .map(with_path)
        .filter(|(path, _)| is_pinned(path))
        .map(|(path, id)| (id, path))
        .collect())
}

/// Every file that has the name of a pin, whether a namespace is mounted on it or not.
pub(crate) fn files(state_dir: &Path) -> io::Result<Vec<Pin>> {
    let mut pins = Vec::new();
    for entry in std::fs::read_dir(state_dir)? {
        pins.extend(entry?.file_name().to_str().and_then(Pin::parse));
    }
    Ok(pins)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        let pin = Pin { id: "web.3-x".into(), address: "10.1.2.3".parse().unwrap(), port: "wh77".into() };
        let path = pin.path(Path::new("/state"));
        assert_eq!(path, Path::new("/state/web.3-x@10.1.2.3@wh77"));
        assert_eq!(Pin::parse(path.file_name().unwrap().to_str().unwrap()), Some(pin));
        for other in
            ["web", "web@10.1.2@wh1", "web@10.1.2.3", "web@10.1.2.3@", "@10.1.2.3@wh1", "..@10.1.2.3@x"]
        {
            assert_eq!(Pin::parse(other), None, "{other}");
        }
    }

    #[test]
    fn ids_that_could_leave_the_directory_are_refused() {
        for (id, valid) in [("web-1", true), ("a/b", false), ("..", false), ("a@b", false), ("", false)] {
            assert_eq!(is_valid_id(id), valid, "{id}");
        }
    }
}
