//! From `index.json` to images: names, multi-platform lists, manifests (OCI image layout and image index specs).

use std::collections::{BTreeMap, BTreeSet};

use super::{Candidate, LoadError, Source, check_config, parse_document, platform_name};
use crate::blob::Staged;
use crate::document::{
    ConfigDocument, Descriptor, DocumentKind, IndexDocument, ListOrManifest, OCI_MANIFEST, Platform,
    host_architecture,
};
use reference::Digest;
use reference::TaggedName;

/// containerd's and Docker's full name; the OCI name may be a mere tag beside it.
const FULL_NAME: &str = "io.containerd.image.name";
const OCI_NAME: &str = "org.opencontainers.image.ref.name";
/// buildkit's signatures and bills of materials, listed beside the images that they describe.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// A list in a list is allowed and seen in the wild; more is not.
const MAX_DEPTH: u32 = 4;

pub(super) fn candidates(source: &mut impl Source) -> Result<Vec<Candidate>, LoadError> {
    let file = "index.json";
    let Some(staged) = source.take(file)? else {
        return Err(LoadError::Missing { file: file.to_owned(), named_by: "the image layout".to_owned() });
    };
    let index: IndexDocument = parse_document(file, &staged)?;
    // Entries of one name are the platforms of one image.
    let mut groups: BTreeMap<Option<&str>, Vec<Descriptor>> = BTreeMap::new();
    for descriptor in index.manifests.iter().filter(|descriptor| descriptor.is_image()) {
        groups.entry(descriptor.name()).or_default().push(descriptor.clone());
    }
    let mut found: Vec<Candidate> = Vec::new();
    for (name, entries) in groups {
        let name = name.map(str::parse::<TaggedName>).transpose()?;
        let mut candidate = pick(source, file, &entries, None, 0)?;
        // One image under two names is one image.
        match found.iter_mut().find(|other| other.manifest.digest == candidate.manifest.digest) {
            Some(same) => same.names.extend(name),
            None => {
                candidate.names.extend(name);
                found.push(candidate);
            }
        }
    }
    Ok(found)
}

/// Chooses the entry for this host and follows it to its manifest.
fn pick(
    source: &mut impl Source,
    file: &str,
    entries: &[Descriptor],
    picked_from: Option<&Digest>,
    depth: u32,
) -> Result<Candidate, LoadError> {
    if depth > MAX_DEPTH {
        return Err(LoadError::TooDeep { file: file.to_owned() });
    }
    let images: Vec<&Descriptor> = entries.iter().filter(|entry| entry.is_image()).collect();
    let chosen = match images.as_slice() {
        [] => return Err(LoadError::Empty),
        // A single entry needs no platform; the configuration is checked in any case.
        [only] => only,
        several => several
            .iter()
            .min_by_key(|entry| preference(entry.platform.as_ref()))
            .filter(|entry| preference(entry.platform.as_ref()) < Preference::Foreign)
            .ok_or_else(|| LoadError::WrongPlatform { offered: offered(several) })?,
    };
    follow(source, file, chosen, picked_from, depth)
}

/// Better first. A platform that says nothing may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Preference {
    Plain,
    Variant,
    Unsaid,
    Foreign,
}

fn preference(platform: Option<&Platform>) -> Preference {
    let Some(platform) = platform else { return Preference::Unsaid };
    if platform.os != "linux" || platform.architecture != host_architecture() {
        return Preference::Foreign;
    }
    match platform.variant.as_deref() {
        // The baselines: what every processor of the architecture runs.
        None | Some("" | "v1" | "v8") => Preference::Plain,
        Some(_) => Preference::Variant,
    }
}

fn offered(entries: &[&Descriptor]) -> String {
    let mut names: Vec<String> =
        entries.iter().filter_map(|entry| entry.platform.as_ref()).map(platform_name).collect();
    names.sort();
    names.dedup();
    names.join(", ")
}

fn follow(
    source: &mut impl Source,
    named_by: &str,
    descriptor: &Descriptor,
    picked_from: Option<&Digest>,
    depth: u32,
) -> Result<Candidate, LoadError> {
    let (file, staged) = take_blob(source, named_by, descriptor)?;
    let document: ListOrManifest = parse_document(&file, &staged)?;
    match (descriptor.kind(), document.manifests, document.config, document.layers) {
        // Without a media type the content decides.
        (DocumentKind::Index | DocumentKind::Other, Some(entries), None, None) => {
            let list = picked_from.unwrap_or(&descriptor.digest);
            pick(source, &file, &entries, Some(list), depth + 1)
        }
        (DocumentKind::Manifest | DocumentKind::Other, None, Some(config), Some(layers)) => {
            let media_type = match descriptor.kind() {
                DocumentKind::Manifest => descriptor.media_type.clone(),
                DocumentKind::Index | DocumentKind::Other => OCI_MANIFEST.to_owned(),
            };
            let mut candidate = image(source, &file, staged, media_type, &config, &layers)?;
            candidate.picked_from = picked_from.cloned();
            Ok(candidate)
        }
        // Neither, or both at once, which two readers could take for two different things.
        _ => Err(LoadError::NotAContainerImage { file, media_type: descriptor.media_type.clone() }),
    }
}

fn image(
    source: &mut impl Source,
    file: &str,
    manifest: Staged,
    media_type: String,
    config: &Descriptor,
    layers: &[Descriptor],
) -> Result<Candidate, LoadError> {
    if !config.is_config() {
        let media_type = config.media_type.clone();
        return Err(LoadError::NotAContainerImage { file: file.to_owned(), media_type });
    }
    if let Some(layer) = layers.iter().find(|layer| !layer.is_layer()) {
        let (file, media_type) = (file.to_owned(), layer.media_type.clone());
        return Err(LoadError::UnknownLayer { file, layer: layer.digest.clone(), media_type });
    }
    let (config_file, staged_config) = take_blob(source, file, config)?;
    let document: ConfigDocument = parse_document(&config_file, &staged_config)?;
    check_config(file, &document, layers.len())?;
    let mut staged_layers = Vec::with_capacity(layers.len());
    for layer in layers {
        staged_layers.push(take_blob(source, file, layer)?.1);
    }
    Ok(Candidate {
        names: BTreeSet::new(),
        manifest,
        media_type,
        config: staged_config,
        layers: staged_layers,
        created: document.created,
        picked_from: None,
    })
}

/// The file of a descriptor, with the digest and size that the descriptor promises.
fn take_blob(
    source: &mut impl Source,
    named_by: &str,
    descriptor: &Descriptor,
) -> Result<(String, Staged), LoadError> {
    let file = format!("blobs/sha256/{}", descriptor.digest.hex());
    let Some(staged) = source.take(&file)? else {
        return Err(LoadError::Missing { file, named_by: named_by.to_owned() });
    };
    if staged.size != descriptor.size {
        return Err(LoadError::WrongSize { file, expected: descriptor.size, found: staged.size });
    }
    if staged.digest != descriptor.digest {
        let expected = descriptor.digest.clone();
        return Err(LoadError::WrongDigest { file, expected, found: staged.digest });
    }
    Ok((file, staged))
}

impl Descriptor {
    fn is_image(&self) -> bool {
        let unknown = self.platform.as_ref().is_some_and(|platform| platform.os == "unknown");
        !unknown && self.annotation(REFERENCE_TYPE).is_none()
    }

    fn name(&self) -> Option<&str> {
        self.annotation(FULL_NAME).or_else(|| self.annotation(OCI_NAME)).filter(|name| !name.is_empty())
    }
}
