//! What a server was told when it founded a cluster or joined one: the file `host.json` in its data folder.
//!
//! An administrator may change `listen`, `advertise` and `contacts` there, and start the server again (`deploy/recover.md`).

use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use model::{HostRole, Millis, Name};
use serde::{Deserialize, Serialize};
use server::remote::{Beginning, RemoteConfig};
use trust::folder::IdentityFolder;

use crate::exit::Failure;

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Membership {
    pub name: String,
    pub listen: SocketAddr,
    /// Host and port.
    pub advertise: String,
    /// Whether it was the first server.
    pub founded: bool,
    /// Where others were when it joined, by their ids. It tells them where it is, as it tells those that the state names: one
    /// that finds none of those any more is helped by the name of one that is there now.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub contacts: BTreeMap<String, String>,
}

pub const FILE: &str = "host.json";

/// Where a server or an agent keeps its key and certificate.
pub fn trust_dir(data: &Path) -> PathBuf {
    agent::Config::trust_dir(data)
}

impl Membership {
    /// Durable when it returns.
    pub fn write(&self, data: &Path) -> Result<(), Failure> {
        let path = data.join(FILE);
        let write = || -> io::Result<()> {
            fs::create_dir_all(data)?;
            let text = serde_json::to_string_pretty(self)?;
            durable_file::replace(&path, text + "\n")
        };
        write().map_err(|error| Failure::new(format!("cannot write {}", path.display())).caused_by(error))
    }

    /// None where the data folder is of a cluster of this host alone. A server that has a certificate is of another one, and
    /// would be reached by nobody.
    pub fn read(data: &Path) -> Result<Option<Membership>, Failure> {
        let path = data.join(FILE);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_one_of_several(data)? => {
                let failure = Failure::new(format!("{} is missing", path.display())).because(format!(
                    "it says where the server listens, and {} has a certificate by which this is one of several servers",
                    trust_dir(data).display()
                ));
                return Err(failure.help(format!(
                    "bring it back, or write it: {{\"name\": \"NAME\", \"listen\": \"0.0.0.0:PORT\", \"advertise\": \
                     \"HOST:PORT\", \"founded\": false}}, as `wharf cluster members` on another server says; nothing else \
                     in {} was touched", data.display()
                )));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read
                .map_err(|error| Failure::new(format!("cannot read {}", path.display())).caused_by(error))?,
        };
        let read = serde_json::from_str(&text);
        read.map(Some)
            .map_err(|error| Failure::new(format!("{} is damaged", path.display())).caused_by(error))
    }

    pub fn remote(self, data: &Path, certificate_lifetime: Millis) -> Result<RemoteConfig, Failure> {
        let damaged =
            |error: String| Failure::new(format!("{} is damaged", data.join(FILE).display())).because(error);
        let contacts = self.contacts.into_iter().map(|(id, address)| {
            let id: model::MemberId = id.parse().map_err(|error| format!("contact {id:?}: {error}"))?;
            Ok((id.0, address))
        });
        Ok(RemoteConfig {
            name: Name::new(&self.name).map_err(|error| damaged(error.to_string()))?,
            listen: self.listen,
            advertise: self.advertise,
            identity: trust_dir(data),
            certificate_lifetime,
            beginning: if self.founded { Beginning::Founds } else { Beginning::Joins },
            contacts: contacts.collect::<Result<_, String>>().map_err(damaged)?,
        })
    }
}

fn is_one_of_several(data: &Path) -> Result<bool, Failure> {
    let path = trust_dir(data);
    if !path.exists() {
        return Ok(false);
    }
    let stored = IdentityFolder::open(&path).and_then(|folder| folder.load());
    let stored =
        stored.map_err(|error| Failure::new(format!("cannot read {}", path.display())).caused_by(error))?;
    Ok(stored.is_some_and(|stored| stored.credentials.identity().role == HostRole::Server))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_with_a_certificate_is_not_taken_for_one_of_its_own() {
        let dir = tempfile::tempdir().expect("a folder");
        let now = model::Timestamp(1_700_000_000_000);
        server::founding::found(dir.path(), &trust_dir(dir.path()), now).expect("it is founded");
        let said = Membership::read(dir.path()).expect_err("where it listens is not known").render();
        assert!(said.contains("host.json is missing") && said.contains("\"advertise\""), "{said}");
    }

    #[test]
    fn it_is_read_as_it_was_written_and_refused_when_damaged() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(Membership::read(dir.path()).expect("no file is fine").is_none());
        let written = Membership {
            name: "server-2".into(),
            listen: "0.0.0.0:7400".parse().expect("an address"),
            advertise: "10.0.0.2:7400".into(),
            founded: false,
            contacts: BTreeMap::from([(model::MemberId(5).to_string(), "10.0.0.1:7400".into())]),
        };
        written.write(dir.path()).expect("it is written");
        let read = Membership::read(dir.path()).expect("it is read").expect("it is there");
        let remote = read.remote(dir.path(), Millis(1)).expect("it is sound");
        assert_eq!(remote.contacts, BTreeMap::from([(5, "10.0.0.1:7400".to_owned())]));
        assert_eq!(remote.beginning, Beginning::Joins);
        fs::write(dir.path().join(FILE), "{\"name\": 5}").expect("it is written");
        assert!(
            Membership::read(dir.path()).expect_err("a number is no name").render().contains("host.json")
        );
    }
}
