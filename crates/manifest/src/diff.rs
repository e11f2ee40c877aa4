//! What changes between two services, field by field.

use std::collections::BTreeMap;

use model::ContainerSpec;
use serde_json::Value as Json;

use crate::declared::{Declared, to_json};
use crate::errors::Style;
use crate::shape::Form;
use crate::yaml::scalar;

/// One value that is not the same any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Items of a list go by what tells them apart: `spec.ports[http].publish`.
    pub path: String,
    /// None when there was nothing.
    pub old: Option<String>,
    /// None when nothing is left.
    pub new: Option<String>,
    /// Whether it is of the replica template, so that replicas are replaced by ones of a new revision.
    pub restarts: bool,
}

/// What is different in `new`, in the order of a manifest; what is gone comes last. Defaults count as if they were
/// written out; a new service is all additions, and of those only what differs from the defaults.
pub fn diff<'a>(old: Option<Declared<'a>>, new: impl Into<Declared<'a>>) -> Vec<Change> {
    let new = new.into();
    let Some(old) = old else {
        let added = leaves(&to_json(new, Form::Short));
        return added.into_iter().map(|(path, value)| change(path, None, Some(value))).collect();
    };
    let (mut before, mut after) = (leaves(&to_json(old, Form::Full)), leaves(&to_json(new, Form::Full)));
    show_moved_images(old, new, &mut before, &mut after);
    let old_values: BTreeMap<&str, &str> =
        before.iter().map(|(path, value)| (path.as_str(), value.as_str())).collect();
    let new_values: BTreeMap<&str, &str> =
        after.iter().map(|(path, value)| (path.as_str(), value.as_str())).collect();
    let mut changes = Vec::new();
    for (path, value) in &after {
        let was = old_values.get(path.as_str()).copied();
        if was != Some(value) {
            changes.push(change(path.clone(), was.map(str::to_owned), Some(value.clone())));
        }
    }
    for (path, value) in &before {
        if !new_values.contains_key(path.as_str()) {
            changes.push(change(path.clone(), Some(value.clone()), None));
        }
    }
    changes
}

fn change(path: String, old: Option<String>, new: Option<String>) -> Change {
    let outside = ["spec.replicas", "spec.update"];
    let is_outside = outside.iter().any(|field| path == *field || path.starts_with(&format!("{field}.")));
    let restarts = path.starts_with("spec.") && !is_outside;
    Change { path, old, new, restarts }
}

/// The lines for people: `~ path: old -> new`, `+ path: new`, `- path: old`.
pub fn render_diff(changes: &[Change], style: &Style) -> String {
    let mut text = String::new();
    for Change { path, old, new, .. } in changes {
        let (colour, line) = match (old, new) {
            (Some(old), Some(new)) => (style.strong, format!("~ {path}: {old} -> {new}")),
            (None, Some(new)) => (style.help, format!("+ {path}: {new}")),
            (Some(old), None) => (style.error, format!("- {path}: {old}")),
            (None, None) => continue,
        };
        text.push_str(&format!("{colour}{line}{}\n", style.reset));
    }
    text
}

/// Every value of a document with its path.
fn leaves(document: &Json) -> Vec<(String, String)> {
    let mut leaves = Vec::new();
    walk("", document, &mut leaves);
    leaves
}

fn walk(path: &str, value: &Json, leaves: &mut Vec<(String, String)>) {
    match value {
        Json::Object(entries) if !entries.is_empty() => {
            for (key, value) in entries {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{}", step(key)) };
                walk(&path, value, leaves);
            }
        }
        Json::Array(items) if items.iter().any(Json::is_object) => {
            for (i, item) in items.iter().enumerate() {
                let known_by = ["name", "target"].iter().find_map(|field| item[*field].as_str());
                let known_by = known_by.map_or_else(|| i.to_string(), step);
                walk(&format!("{path}[{known_by}]"), item, leaves);
            }
        }
        // A list of words, such as a command, means something only as a whole.
        other => leaves.push((path.to_owned(), shown(other))),
    }
}

/// A name that would blur the path is quoted.
fn step(key: &str) -> String {
    if key.contains(['.', '[', ']']) { format!("{key:?}") } else { key.to_owned() }
}

fn shown(value: &Json) -> String {
    match value {
        Json::String(text) if text.contains('\n') => format!("{text:?}"),
        Json::String(text) => scalar(text),
        Json::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_) => value.to_string(),
    }
}

/// The same tag may mean other bytes than last time. The manifest cannot show that; the digests can.
fn show_moved_images(
    old: Declared<'_>,
    new: Declared<'_>,
    before: &mut [(String, String)],
    after: &mut [(String, String)],
) {
    for (path, container) in images(new) {
        let Some((_, known)) = images(old).into_iter().find(|(known, _)| *known == path) else { continue };
        let (Some(was), Some(is)) = (&known.image.digest, &container.image.digest) else { continue };
        if was == is || known.image.reference != container.image.reference {
            continue;
        }
        for (values, digest) in [(&mut *before, was), (&mut *after, is)] {
            let image = values.iter_mut().find(|(known, _)| *known == path);
            if let Some((_, value)) = image {
                value.push_str(&format!(" ({digest})"));
            }
        }
    }
}

/// The containers by the paths that their images have in a diff.
fn images(declared: Declared<'_>) -> Vec<(String, &ContainerSpec)> {
    let template = &declared.spec.template;
    let path = |list: &str, container: &ContainerSpec| {
        format!("spec.{list}[{}].image", step(container.name.as_str()))
    };
    let init = template.init.iter().map(|container| (path("initContainers", container), container));
    let sidecars = template.sidecars.iter().map(|container| (path("sidecars", container), container));
    std::iter::once(("spec.image".to_owned(), &template.main)).chain(init).chain(sidecars).collect()
}
