//! Images: every name becomes the digest that it means now, so that all replicas of a revision run the same bytes.
//!
//! What a name means is what the nodes that are ready have under it. Where they differ, there is no good guess. A new leader
//! has heard nobody yet, and the first node that speaks may be the one that has an old image: so it answers once it has
//! heard every node that is not down, or has waited for them.
//!
//! Nodes have many images and a request many services, so names are brought into their normal form when a node says them,
//! and each name of a request is looked up once.

use std::collections::{BTreeMap, BTreeSet};

use model::{Digest, Millis, Name, NodeId, ReplicaTemplate, ServiceKey, Silence, Timestamp};
use reference::{Reference, TaggedName};
use store::{NodeReport, Observations};

use crate::{Codec, ImageError, Manager, RequestError};

/// So long a new leader waits for nodes that it has not heard; agents need a few seconds to find it.
const HEARD_WITHIN: Millis = Millis(10_000);

/// What a node says that it has, by normal names. What has no name cannot be meant by one.
pub(crate) fn named(images: Vec<(String, Digest)>) -> impl Iterator<Item = (String, Digest)> {
    let normal = |(name, digest): (String, Digest)| {
        let name: TaggedName = name.parse().ok()?;
        Some((name.to_string(), digest))
    };
    images.into_iter().filter_map(normal)
}

/// What names mean while one request is answered.
pub(crate) struct Images<'a> {
    observed: &'a Observations,
    /// Why none can be looked up: makes the refusal for a name.
    nobody: Option<fn(String) -> RequestError>,
    /// A node that may have an image that this leader has not been told of.
    not_heard: Option<NodeId>,
    looked_up: BTreeMap<String, Meaning>,
    /// What there is, once a digest was asked for.
    digests: Option<BTreeSet<Digest>>,
}

/// What a name means.
#[derive(Clone)]
enum Meaning {
    Unknown,
    /// By a digest: then it does not matter which node has it.
    Certain(Digest),
    One(Digest),
    Several(Vec<(Digest, Vec<NodeId>)>),
}

impl<C: Codec> Manager<C> {
    pub(crate) fn images(&self, now: Timestamp) -> Images<'_> {
        let is_any_ready = ready(&self.observed).next().is_some();
        let has_any = self.state.nodes().next().is_some();
        let nobody: Option<fn(String) -> RequestError> = match (is_any_ready, has_any) {
            (true, _) => None,
            (false, true) => Some(|reference| RequestError::NoNodes { reference }),
            (false, false) => Some(|_| RequestError::NoneJoined),
        };
        Images {
            observed: &self.observed,
            nobody,
            not_heard: self.not_heard_yet(now),
            looked_up: BTreeMap::new(),
            digests: None,
        }
    }

    fn not_heard_yet(&self, now: Timestamp) -> Option<NodeId> {
        let mut nodes = self.state.nodes().filter(|node| node.down.is_none()).map(|node| node.info.id);
        let is_awaited = |node: &NodeId| {
            self.observed.node(*node).is_some_and(|report| {
                report.silence == Some(Silence::NotHeardYet) && now.since(report.since) < HEARD_WITHIN
            })
        };
        nodes.find(is_awaited)
    }
}

impl Images<'_> {
    /// Puts a digest to every image of the template; returns every name for which there is none.
    pub(crate) fn resolve(
        &mut self,
        service: &ServiceKey,
        template: &mut ReplicaTemplate,
    ) -> Result<Vec<ImageError>, RequestError> {
        let mut errors = Vec::new();
        for container in template.containers_mut() {
            let reference = container.image.reference.clone();
            let meaning = self.meaning(&reference)?;
            let error = |meant| failed(service.clone(), container.name.clone(), reference, meant);
            match meaning {
                Meaning::Certain(digest) | Meaning::One(digest) => container.image.digest = Some(digest),
                Meaning::Unknown => errors.push(error(Vec::new())),
                Meaning::Several(found) => errors.push(error(found)),
            }
        }
        Ok(errors)
    }

    fn meaning(&mut self, reference: &str) -> Result<Meaning, RequestError> {
        if let Some(known) = self.looked_up.get(reference) {
            return Ok(known.clone());
        }
        if let Some(refusal) = self.nobody {
            return Err(refusal(reference.to_owned()));
        }
        let meaning = match reference.parse() {
            Ok(Reference::Exact { digest, .. }) if self.is_somewhere(&digest) => Meaning::Certain(digest),
            Ok(Reference::Tagged(name)) => self.named(&name),
            // No node has anything under what is no name.
            Ok(Reference::Exact { .. }) | Err(_) => Meaning::Unknown,
        };
        match (&meaning, self.not_heard) {
            (Meaning::Certain(_), _) | (_, None) => {}
            (_, Some(node)) => {
                return Err(RequestError::NodeNotHeard { reference: reference.to_owned(), node });
            }
        }
        self.looked_up.insert(reference.to_owned(), meaning.clone());
        Ok(meaning)
    }

    /// What the nodes that are ready have under this name.
    fn named(&self, name: &TaggedName) -> Meaning {
        let name = name.to_string();
        let mut found: BTreeMap<&Digest, Vec<NodeId>> = BTreeMap::new();
        for (node, report) in ready(self.observed) {
            if let Some(digest) = report.images.get(&name) {
                found.entry(digest).or_default().push(node);
            }
        }
        let mut found: Vec<_> = found.into_iter().map(|(digest, on)| (digest.clone(), on)).collect();
        match found.len() {
            0 => Meaning::Unknown,
            1 => Meaning::One(found.remove(0).0),
            _ => Meaning::Several(found),
        }
    }

    /// Whatever it is called where it is.
    fn is_somewhere(&mut self, digest: &Digest) -> bool {
        let observed = self.observed;
        let all = || ready(observed).flat_map(|(_, report)| report.images.values().cloned()).collect();
        self.digests.get_or_insert_with(all).contains(digest)
    }
}

fn ready(observed: &Observations) -> impl Iterator<Item = (NodeId, &NodeReport)> {
    let nodes = observed.nodes().map(|(node, report)| (*node, report));
    nodes.filter(|(node, _)| observed.is_ready(*node))
}

fn failed(
    service: ServiceKey,
    container: Name,
    reference: String,
    found: Vec<(Digest, Vec<NodeId>)>,
) -> ImageError {
    match found.is_empty() {
        true => ImageError::Unknown { service, container, reference },
        false => ImageError::Ambiguous { service, container, reference, found },
    }
}
