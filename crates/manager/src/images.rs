//! Images: every name becomes the digest that it means now, so that all replicas of a revision run the same bytes.
//!
//! What a name means is what the nodes that are ready have under it. Where they differ, there is no good guess. A new leader
//! has heard nobody yet, and the first node that speaks may be the one that has an old image: so it answers once it has
//! heard every node that is not down, or has waited for them.

use std::collections::{BTreeMap, BTreeSet};

use model::{Digest, Millis, NodeId, ReplicaTemplate, ServiceKey, Silence, Timestamp};
use reference::Reference;

use crate::{Codec, ImageError, Manager, RequestError};

/// So long a new leader waits for nodes that it has not heard; agents need a few seconds to find it.
const HEARD_WITHIN: Millis = Millis(10_000);

impl<C: Codec> Manager<C> {
    /// Puts a digest to every image of the template; returns every name for which there is none.
    pub(crate) fn resolve_images(
        &self,
        now: Timestamp,
        service: &ServiceKey,
        template: &mut ReplicaTemplate,
    ) -> Result<Vec<ImageError>, RequestError> {
        let mut errors = Vec::new();
        for container in template.containers_mut() {
            let reference = container.image.reference.clone();
            if !self.observed.nodes().any(|(node, _)| self.observed.is_ready(*node)) {
                let has_any = self.state.nodes().next().is_some();
                return Err(if has_any {
                    RequestError::NoNodes { reference }
                } else {
                    RequestError::NoneJoined
                });
            }
            let mut found = self.find_image(&reference);
            let is_certain = found.len() == 1 && names_digest(&reference);
            if let Some(node) = self.not_heard_yet(now).filter(|_| !is_certain) {
                return Err(RequestError::NodeNotHeard { reference, node });
            }
            let (service, container_name) = (service.clone(), container.name.clone());
            match found.pop_first() {
                Some((digest, _)) if found.is_empty() => container.image.digest = Some(digest),
                Some(first) => errors.push(ImageError::Ambiguous {
                    service,
                    container: container_name,
                    reference,
                    found: [first]
                        .into_iter()
                        .chain(found)
                        .map(|(digest, on)| (digest, on.into_iter().collect()))
                        .collect(),
                }),
                None => errors.push(ImageError::Unknown { service, container: container_name, reference }),
            }
        }
        Ok(errors)
    }

    /// A node that may have an image that this leader has not been told of.
    fn not_heard_yet(&self, now: Timestamp) -> Option<NodeId> {
        let mut nodes = self.state.nodes().filter(|node| node.down.is_none()).map(|node| node.info.id);
        let is_awaited = |node: &NodeId| {
            self.observed.node(*node).is_some_and(|report| {
                report.silence == Some(Silence::NotHeardYet) && now.since(report.since) < HEARD_WITHIN
            })
        };
        nodes.find(is_awaited)
    }

    /// What the nodes that are ready have under this name, and which has what.
    fn find_image(&self, reference: &str) -> BTreeMap<Digest, BTreeSet<NodeId>> {
        let wanted: Option<Reference> = reference.parse().ok();
        let is_meant = |name: &str, digest: &Digest| match &wanted {
            // A digest says which image is meant, whatever it is called where it is.
            Some(Reference::Exact { digest: wanted, .. }) => wanted == digest,
            Some(wanted) => name.parse().as_ref() == Ok(wanted),
            // No node has anything under what is no name.
            None => false,
        };
        let mut found: BTreeMap<Digest, BTreeSet<NodeId>> = BTreeMap::new();
        for (node, report) in self.observed.nodes().filter(|(node, _)| self.observed.is_ready(**node)) {
            for (_, digest) in report.images.iter().filter(|(name, digest)| is_meant(name, digest)) {
                found.entry(digest.clone()).or_default().insert(*node);
            }
        }
        found
    }
}

/// Then it does not matter which node has it.
fn names_digest(reference: &str) -> bool {
    matches!(reference.parse(), Ok(Reference::Exact { .. }))
}
