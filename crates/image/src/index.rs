//! Which images the store has, and their names: `index.json`, so that the store itself is an OCI image layout that
//! other tools can read (`skopeo inspect oci:<root>:busybox:latest`).
//!
//! Every manifest in the store is listed: once for each of its names, or once without a name when its last name was
//! taken or removed. Nameless images stay usable by digest, which is what a rollback needs, until garbage collection.
//!
//! Invariant: the file on disk is written before the value in memory changes, and both always agree.

use std::collections::{BTreeMap, BTreeSet};

use crate::document::{Descriptor, IndexDocument, OCI_INDEX};
use reference::Digest;
use reference::TaggedName;

const NAME: &str = "org.opencontainers.image.ref.name";
const CREATED: &str = "org.opencontainers.image.created";
/// The digest of the multi-platform list that the manifest was picked from.
const PICKED_FROM: &str = "wharf.image.picked-from";
/// The sum of the manifest, the configuration and the layers as stored.
const TOTAL_BYTES: &str = "wharf.image.total-bytes";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    images: BTreeMap<Digest, Listed>,
}

/// One manifest in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) names: BTreeSet<TaggedName>,
    pub(crate) media_type: String,
    pub(crate) manifest_bytes: u64,
    pub(crate) total_bytes: u64,
    pub(crate) created: Option<String>,
    pub(crate) picked_from: Option<Digest>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    #[error("it is not an OCI image index")]
    Json(#[source] serde_json::Error),
    #[error("it lists an image under the bad name {0:?}")]
    Name(String, #[source] reference::ReferenceError),
}

impl Index {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Index, IndexError> {
        let document: IndexDocument = serde_json::from_slice(bytes).map_err(IndexError::Json)?;
        let mut index = Index::default();
        for descriptor in document.manifests {
            let name = match descriptor.annotation(NAME) {
                Some(name) => Some(name.parse().map_err(|error| IndexError::Name(name.to_owned(), error))?),
                None => None,
            };
            let listed = index.images.entry(descriptor.digest.clone()).or_insert_with(|| Listed {
                names: BTreeSet::new(),
                total_bytes: annotated(&descriptor, TOTAL_BYTES).unwrap_or(descriptor.size),
                created: annotated(&descriptor, CREATED),
                picked_from: annotated(&descriptor, PICKED_FROM),
                manifest_bytes: descriptor.size,
                media_type: descriptor.media_type,
            });
            listed.names.extend(name);
        }
        Ok(index)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let describe = |(digest, listed): (&Digest, &Listed)| {
            let nameless = [None];
            let names = listed.names.iter().map(Some);
            let names: Vec<_> = if listed.names.is_empty() { nameless.into() } else { names.collect() };
            names.into_iter().map(|name| listed.descriptor(digest, name)).collect::<Vec<_>>()
        };
        let manifests = self.images.iter().flat_map(describe).collect();
        let document = IndexDocument { schema_version: 2, media_type: OCI_INDEX.to_owned(), manifests };
        // Maps with string keys, numbers and strings always have a JSON form.
        let mut bytes = serde_json::to_vec_pretty(&document).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Lists an image, and gives it a name, which it takes from whoever has it.
    pub(crate) fn put(&mut self, digest: Digest, mut listed: Listed) {
        for other in self.images.values_mut() {
            other.names.retain(|name| !listed.names.contains(name));
        }
        if let Some(before) = self.images.remove(&digest) {
            listed.names.extend(before.names);
            listed.picked_from = listed.picked_from.or(before.picked_from);
        }
        self.images.insert(digest, listed);
    }

    /// Takes names away from images; `false` if no image had one that fits.
    pub(crate) fn unname(&mut self, fits: impl Fn(&Digest, &TaggedName) -> bool) -> bool {
        let mut any = false;
        for (digest, listed) in &mut self.images {
            let before = listed.names.len();
            listed.names.retain(|name| !fits(digest, name));
            any |= listed.names.len() < before;
        }
        any
    }

    pub(crate) fn by_name(&self, name: &TaggedName) -> Option<&Digest> {
        self.images.iter().find(|(_, listed)| listed.names.contains(name)).map(|(digest, _)| digest)
    }

    /// The image with this manifest, or the one that was picked from the list with this digest.
    pub(crate) fn by_digest(&self, digest: &Digest) -> Option<&Digest> {
        if let Some((known, _)) = self.images.get_key_value(digest) {
            return Some(known);
        }
        self.images
            .iter()
            .find(|(_, listed)| listed.picked_from.as_ref() == Some(digest))
            .map(|(known, _)| known)
    }

    pub(crate) fn get(&self, digest: &Digest) -> Option<&Listed> {
        self.images.get(digest)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Digest, &Listed)> {
        self.images.iter()
    }

    /// Forgets every image that is not to be kept.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Digest, &Listed) -> bool) {
        self.images.retain(|digest, listed| keep(digest, listed));
    }
}

impl Listed {
    fn descriptor(&self, digest: &Digest, name: Option<&TaggedName>) -> Descriptor {
        let annotations = [
            (NAME, name.map(TaggedName::to_string)),
            (CREATED, self.created.clone()),
            (PICKED_FROM, self.picked_from.as_ref().map(Digest::to_string)),
            (TOTAL_BYTES, Some(self.total_bytes.to_string())),
        ];
        Descriptor {
            media_type: self.media_type.clone(),
            digest: digest.clone(),
            size: self.manifest_bytes,
            platform: None,
            annotations: annotations
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), value?)))
                .collect(),
        }
    }
}

fn annotated<T: std::str::FromStr>(descriptor: &Descriptor, key: &str) -> Option<T> {
    descriptor.annotation(key)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(names: &[&str]) -> Listed {
        Listed {
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
            media_type: crate::document::OCI_MANIFEST.to_owned(),
            manifest_bytes: 10,
            total_bytes: 100,
            created: None,
            picked_from: None,
        }
    }

    fn shown(index: &Index) -> Vec<String> {
        let line = |(digest, listed): (&Digest, &Listed)| {
            let names: Vec<_> = listed.names.iter().map(TaggedName::to_string).collect();
            format!("{} {}", &digest.hex()[..4], names.join(" "))
        };
        index.iter().map(line).collect()
    }

    #[test]
    fn a_name_moves_and_leaves_the_old_image_nameless() {
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        let mut index = Index::default();
        index.put(one.clone(), listed(&["app:1", "app:latest"]));
        index.put(two.clone(), listed(&["app:latest"]));
        assert_eq!(shown(&index), ["3fc4 app:latest", "7692 app:1"]);
        assert!(index.unname(|_, name| name.tag() == "1"));
        assert!(!index.unname(|_, name| name.tag() == "1"));
        assert_eq!(shown(&index), ["3fc4 app:latest", "7692 "]);
        assert_eq!(index.by_digest(&one), Some(&one));
        assert_eq!(Index::parse(&index.to_bytes()).unwrap(), index);
        index.retain(|_, listed| !listed.names.is_empty());
        assert_eq!(index.by_digest(&one), None);
    }
}
