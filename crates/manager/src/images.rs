//! Images: every name becomes the digest that it means now, so that all replicas of a revision run the same bytes.
//!
//! What a name means is what the nodes that are ready have under it. Where they differ, there is no good guess.

use std::collections::{BTreeMap, BTreeSet};

use model::{Digest, NodeId, ReplicaTemplate, ServiceKey};
use reference::Reference;

use crate::{Codec, ImageError, Manager, RequestError};

impl<C: Codec> Manager<C> {
    /// Puts a digest to every image of the template; returns every name for which there is none.
    pub(crate) fn resolve_images(
        &self,
        service: &ServiceKey,
        template: &mut ReplicaTemplate,
    ) -> Result<Vec<ImageError>, RequestError> {
        let mut errors = Vec::new();
        for container in template.containers_mut() {
            let reference = container.image.reference.clone();
            if !self.observed.nodes().any(|(node, _)| self.observed.is_ready(*node)) {
                return Err(RequestError::NoNodes { reference });
            }
            let mut found = self.find_image(&reference);
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
