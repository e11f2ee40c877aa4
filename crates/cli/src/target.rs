//! What a user names: a service, or one slot of it.

use std::str::FromStr;

use model::{Name, ServiceKey};
use proto::v1;

/// `web`, `service/web`, `shop/web` (a namespace), or with a slot: `web.3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub namespace: Option<Name>,
    pub service: Name,
    pub slot: Option<u32>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        let bare =
            ["service/", "services/", "svc/", "replica/"].iter().find_map(|kind| text.strip_prefix(kind));
        let bare = bare.unwrap_or(text);
        let (namespace, rest) = match bare.split_once('/') {
            Some((namespace, rest)) => (Some(read_name(namespace)?), rest),
            None => (None, bare),
        };
        let (service, slot) = match rest.split_once('.') {
            Some((service, slot)) => (service, Some(read_slot(slot)?)),
            None => (rest, None),
        };
        Ok(Target { namespace, service: read_name(service)?, slot })
    }
}

pub fn read_name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| format!("{text:?} is not a name: {error}"))
}

fn read_slot(text: &str) -> Result<u32, String> {
    let number = text.parse::<u32>().ok().filter(|slot| *slot > 0);
    number.ok_or_else(|| format!("{text:?} is not a slot; slots are numbered from 1, as in web.1"))
}

/// For verbs that are about a service as a whole.
pub fn read_service(text: &str) -> Result<Target, String> {
    let target: Target = text.parse()?;
    match target.slot {
        Some(_) => Err(format!("this is for whole services; say {}", target.service)),
        None => Ok(target),
    }
}

impl Target {
    /// The service's key; `namespace` where the target has none of its own.
    pub fn key(&self, namespace: &Name) -> ServiceKey {
        let namespace = self.namespace.clone().unwrap_or_else(|| namespace.clone());
        ServiceKey { namespace, name: self.service.clone() }
    }

    pub fn selector(&self) -> Option<v1::ReplicaSelector> {
        let slot = v1::replica_selector::Replica::Slot(self.slot?);
        Some(v1::ReplicaSelector { replica: Some(slot) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_as_people_write_them() {
        let name = |text: &str| Name::new(text).expect("a name");
        let target = |namespace: Option<&str>, service: &str, slot| Target {
            namespace: namespace.map(name),
            service: name(service),
            slot,
        };
        assert_eq!("web".parse(), Ok(target(None, "web", None)));
        assert_eq!("service/web.3".parse(), Ok(target(None, "web", Some(3))));
        assert_eq!("shop/web".parse(), Ok(target(Some("shop"), "web", None)));
        assert_eq!("service/shop/web".parse(), Ok(target(Some("shop"), "web", None)));
        for wrong in ["web.0", "web.x", "Web", "", "a/b/c", "/web", "web/"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_verb_for_services_says_so_of_a_slot() {
        assert_eq!(read_service("web.3"), Err("this is for whole services; say web".to_owned()));
        assert!(read_service("web").is_ok());
    }
}
