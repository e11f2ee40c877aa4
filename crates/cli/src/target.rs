//! What a user names: a service, or one slot of it.

use std::str::FromStr;

use proto::v1;

/// `web`, `service/web`, `shop/web` (a namespace), or with a slot: `web.3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub namespace: Option<String>,
    pub service: String,
    pub slot: Option<u32>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        let bare = text.strip_prefix("service/").or_else(|| text.strip_prefix("svc/")).unwrap_or(text);
        let (namespace, rest) = match bare.split_once('/') {
            Some((namespace, rest)) => (Some(namespace), rest),
            None => (None, bare),
        };
        let (service, slot) = match rest.split_once('.') {
            Some((service, slot)) => {
                let number = slot.parse::<u32>().ok().filter(|slot| *slot > 0);
                (
                    service,
                    Some(number.ok_or_else(|| format!("{slot:?} is not a slot; slots are numbered from 1"))?),
                )
            }
            None => (rest, None),
        };
        for name in namespace.iter().chain([&service]) {
            model::Name::new(name).map_err(|error| format!("{name:?} is not a name: {error}"))?;
        }
        let (namespace, service) = (namespace.map(str::to_owned), service.to_owned());
        Ok(Target { namespace, service, slot })
    }
}

impl Target {
    /// The service's key; `namespace` where the target has none of its own.
    pub fn key(&self, namespace: &str) -> v1::ServiceKey {
        let namespace = self.namespace.clone().unwrap_or_else(|| namespace.to_owned());
        v1::ServiceKey { namespace, name: self.service.clone() }
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
        let target = |namespace: Option<&str>, service: &str, slot| Target {
            namespace: namespace.map(str::to_owned),
            service: service.to_owned(),
            slot,
        };
        assert_eq!("web".parse(), Ok(target(None, "web", None)));
        assert_eq!("service/web.3".parse(), Ok(target(None, "web", Some(3))));
        assert_eq!("shop/web".parse(), Ok(target(Some("shop"), "web", None)));
        assert!("web.0".parse::<Target>().is_err());
        assert!("Web".parse::<Target>().is_err());
    }
}
