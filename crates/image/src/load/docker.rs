//! From `manifest.json` of a Docker archive to images.
//!
//! Such an archive has no manifest in the sense of a registry, so one is made: a function of the configuration and the
//! layers as they are in the archive, so that the same archive always gives the same image. It differs from the digest
//! that a registry has for the same image, because compression differs.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{Candidate, LoadError, Source, check_config, describe, parse_document, stage_json};
use crate::blob::{Staged, Staging};
use crate::compression::{Compression, sniff};
use crate::document::{ConfigDocument, Manifest, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST};
use crate::durable::At;
use reference::TaggedName;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

pub(super) fn candidates(
    source: &mut impl Source,
    staging: &mut Staging,
    limit_bytes: u64,
) -> Result<Vec<Candidate>, LoadError> {
    let file = "manifest.json";
    let Some(staged) = source.take(file)? else {
        return Err(LoadError::Missing { file: file.to_owned(), named_by: "the archive".to_owned() });
    };
    let entries: Vec<Entry> = parse_document(file, &staged)?;
    entries.into_iter().map(|entry| candidate(source, staging, limit_bytes, file, entry)).collect()
}

fn candidate(
    source: &mut impl Source,
    staging: &mut Staging,
    limit_bytes: u64,
    named_by: &str,
    entry: Entry,
) -> Result<Candidate, LoadError> {
    let config = take(source, named_by, &entry.config)?;
    let document: ConfigDocument = parse_document(&entry.config, &config)?;
    let paths = entry.layers.unwrap_or_default();
    check_config(named_by, &document, paths.len())?;
    let mut layers = Vec::with_capacity(paths.len());
    let mut descriptors = Vec::with_capacity(paths.len());
    for (path, diff_id) in paths.iter().zip(&document.rootfs.diff_ids) {
        let layer = take(source, named_by, path)?;
        let (compression, _) = sniff(layer.open()?).at("read", &layer.path)?;
        // What is not compressed can be compared now; the rest when it is unpacked.
        if compression == Compression::Plain && layer.digest != *diff_id {
            let (expected, found) = (diff_id.clone(), layer.digest);
            return Err(LoadError::WrongDigest { file: path.clone(), expected, found });
        }
        descriptors.push(describe(&format!("{OCI_LAYER}{}", compression.suffix()), &layer));
        layers.push(layer);
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: OCI_MANIFEST.to_owned(),
        config: describe(OCI_CONFIG, &config),
        layers: descriptors,
    };
    let names: Result<BTreeSet<TaggedName>, _> =
        entry.repo_tags.unwrap_or_default().iter().map(|name| name.parse()).collect();
    Ok(Candidate {
        names: names?,
        manifest: stage_json(staging, &manifest, limit_bytes)?,
        media_type: OCI_MANIFEST.to_owned(),
        config,
        layers,
        created: document.created,
        picked_from: None,
    })
}

fn take(source: &mut impl Source, named_by: &str, path: &str) -> Result<Staged, LoadError> {
    let missing = || LoadError::Missing { file: path.to_owned(), named_by: named_by.to_owned() };
    source.take(path)?.ok_or_else(missing)
}
