//! Questions to a server, and what to say when what a user named is not there.

use model::{Name, ServiceKey};
use proto::v1::{self, Reason, status_request::Services};

use crate::{
    answer::{Answer, ServiceView},
    connect::Client,
    exit::Failure,
    output::text::{count, nearest},
};

/// Which services, and what else, a question is about. Nodes are always asked for: sentences name them.
#[derive(Clone, Debug)]
pub struct Question {
    pub services: Option<Services>,
    /// How many events, at most.
    pub events: Option<u32>,
}

impl Question {
    pub fn all() -> Question {
        Question { services: Some(Services::All(v1::status_request::All {})), events: None }
    }

    pub fn namespace(namespace: &Name) -> Question {
        Question { services: Some(Services::Namespace(namespace.to_string())), events: None }
    }

    pub fn named<'a>(keys: impl IntoIterator<Item = &'a ServiceKey>) -> Question {
        let keys = keys.into_iter().map(v1::ServiceKey::from).collect();
        Question { services: Some(Services::Named(v1::status_request::ServiceKeys { keys })), events: None }
    }

    pub fn nodes() -> Question {
        Question { services: None, events: None }
    }

    pub fn with_events(self, at_most: u32) -> Question {
        Question { events: Some(at_most), ..self }
    }

    pub fn request(&self) -> v1::StatusRequest {
        v1::StatusRequest {
            services: self.services.clone(),
            nodes: true,
            events: self.events.is_some(),
            event_limit: self.events.unwrap_or_default(),
        }
    }
}

pub async fn status(client: &mut Client, question: Question) -> Result<Answer, Failure> {
    Answer::read(client.status(question.request()).await?.into_inner())
}

/// One service that must be there.
pub async fn service(client: &mut Client, key: &ServiceKey) -> Result<ServiceView, Failure> {
    about(client, key).await.map(|(found, _)| found)
}

/// The same, with the rest of the answer.
pub async fn about(client: &mut Client, key: &ServiceKey) -> Result<(ServiceView, Answer), Failure> {
    let mut answer = status(client, Question::named([key])).await?;
    match answer.services.pop() {
        Some(found) => Ok((found, answer)),
        None => Err(unknown_service(client, key).await),
    }
}

/// A refusal that concerns services: one that is not there is told with the one that was probably meant.
pub async fn refused(client: &mut Client, keys: &[ServiceKey], status: tonic::Status) -> Failure {
    if proto::reason::reason(&status) == Some(Reason::NotFound)
        && let Ok(answer) = self::status(client, Question::named(keys)).await
        && let Some(missing) = keys.iter().find(|key| answer.service(key).is_none())
    {
        return unknown_service(client, missing).await;
    }
    status.into()
}

/// The error for a service that is not there.
pub async fn unknown_service(client: &mut Client, key: &ServiceKey) -> Failure {
    let known: Vec<ServiceKey> = match status(client, Question::all()).await {
        Ok(answer) => answer.services.into_iter().map(|found| found.service.key).collect(),
        Err(_) => Vec::new(),
    };
    no_such_service(key, &known)
}

pub fn no_such_service(key: &ServiceKey, known: &[ServiceKey]) -> Failure {
    let failure = Failure::new(format!("there is no service {} in namespace {}", key.name, key.namespace));
    if let Some(elsewhere) = known.iter().find(|other| other.name == key.name) {
        let namespace = &elsewhere.namespace;
        return failure.help(format!(
            "there is one in namespace {namespace}: say {namespace}/{} or -n {namespace}",
            key.name
        ));
    }
    let near = |same_namespace: bool| {
        let names = known.iter().filter(|other| (other.namespace == key.namespace) == same_namespace);
        let names: Vec<&ServiceKey> = names.collect();
        let near = nearest(key.name.as_str(), names.iter().map(|other| other.name.as_str()))?.to_owned();
        names.into_iter().find(|other| other.name.as_str() == near)
    };
    match near(true) {
        Some(near) => return failure.help(format!("did you mean {}?", near.name)),
        None => {
            if let Some(near) = near(false) {
                return failure.help(format!("did you mean {near}?"));
            }
        }
    }
    let namespaces: Vec<&Name> = known.iter().map(|other| &other.namespace).collect();
    if known.is_empty() {
        return failure.help("there are no services at all; `wharf apply -f FILE` makes one");
    }
    if !namespaces.contains(&&key.namespace) {
        let near = nearest(key.namespace.as_str(), namespaces.iter().map(|name| name.as_str()));
        let meant = near.map_or_else(
            || "`wharf get services -A` lists all".to_owned(),
            |near| format!("did you mean -n {near}?"),
        );
        return failure.help(format!("namespace {} has no services; {meant}", key.namespace));
    }
    failure.help(list(
        "it has",
        known.iter().filter(|other| other.namespace == key.namespace).map(|other| other.name.as_str()),
    ))
}

/// The error for a slot that a service does not have.
pub fn no_such_slot(found: &ServiceView, slot: u32) -> Failure {
    let name = &found.service.key.name;
    let message = format!("service {name} has no replica in slot {slot}");
    let replicas = count(found.service.spec.replicas, "replica");
    Failure::new(message)
        .help(format!("it wants {replicas}; `wharf get replicas {name}` lists those there are"))
}

pub fn no_such_node(name: &str, known: &[&str]) -> Failure {
    let failure = Failure::new(format!("there is no node {name}"));
    match nearest(name, known.iter().copied()) {
        Some(near) => failure.help(format!("did you mean {near}?")),
        None if known.is_empty() => failure.help("no agent has registered yet"),
        None => failure.help(list("there are", known.iter().copied())),
    }
}

/// A few names; many are for another command.
fn list<'a>(intro: &str, names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 8;
    let names: Vec<&str> = names.collect();
    let more = names.len().saturating_sub(SHOWN);
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if more == 0 { format!("{intro}: {shown}") } else { format!("{intro}: {shown} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> ServiceKey {
        let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
        ServiceKey { namespace: name_of(namespace), name: name_of(name) }
    }

    fn name_of(text: &str) -> Name {
        Name::new(text).expect("a name")
    }

    #[test]
    fn the_service_that_was_probably_meant_is_named() {
        let check = |wanted: &str, known: &[&str], expected: &str| {
            let known: Vec<ServiceKey> = known.iter().map(|text| key(text)).collect();
            let text = no_such_service(&key(wanted), &known).render();
            let text = anstream::adapter::strip_str(&text).to_string();
            let help =
                text.lines().find_map(|line| line.strip_prefix("help: ")).unwrap_or_default().to_owned();
            assert_eq!(help, expected, "{wanted} of {known:?}");
        };
        check("web", &["shop/web"], "there is one in namespace shop: say shop/web or -n shop");
        check("wev", &["web", "api"], "did you mean web?");
        check("wev", &["shop/web", "api"], "did you mean shop/web?");
        check("orders", &["web", "api"], "it has: web, api");
        check("shpo/orders", &["shop/web", "api"], "namespace shpo has no services; did you mean -n shop?");
        check("zzz/orders", &["web"], "namespace zzz has no services; `wharf get services -A` lists all");
        check("web", &[], "there are no services at all; `wharf apply -f FILE` makes one");
    }
}
