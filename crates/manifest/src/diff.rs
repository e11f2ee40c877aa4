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
/// written out, but are not shown where they come or go with something else.
pub fn diff<'a>(old: Option<Declared<'a>>, new: impl Into<Declared<'a>>) -> Vec<Change> {
    let new = new.into();
    let (mut before, mut after) = (old.map(Leaves::of).unwrap_or_default(), Leaves::of(new));
    if let Some(old) = old {
        show_moved_images(old, new, &mut before, &mut after);
    }
    let mut changes = Vec::new();
    for (path, value) in &after.full {
        match before.get(path) {
            Some(was) if was == value => {}
            Some(was) => changes.push(change(path.clone(), Some(was.to_owned()), Some(value.clone()))),
            None if after.is_written(path) => changes.push(change(path.clone(), None, Some(value.clone()))),
            None => {}
        }
    }
    changes.extend(before.reordered(&after));
    for (path, value) in &before.full {
        if after.get(path).is_none() && before.is_written(path) {
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

/// Every value that a service has, with its path.
#[derive(Default)]
struct Leaves {
    /// Defaults included, in the order of the manifest.
    full: Vec<(String, String)>,
    values: BTreeMap<String, String>,
    /// Only what a person would write.
    short: Vec<(String, String)>,
    /// Lists of which the items have names, and these names in order.
    orders: BTreeMap<String, Vec<String>>,
}

impl Leaves {
    fn of(declared: Declared<'_>) -> Leaves {
        let mut leaves = Leaves::default();
        let full = to_json(declared, Form::Full);
        let mut short = Vec::new();
        walk("", &to_json(declared, Form::Short), &mut short, &mut BTreeMap::new());
        walk("", &full, &mut leaves.full, &mut leaves.orders);
        // The caller knows which service it is.
        let is_told =
            |(path, _): &(String, String)| path.starts_with("spec") || path.starts_with("metadata.");
        let is_key = |path: &str| matches!(path, "metadata.name" | "metadata.namespace");
        leaves.full.retain(|leaf| is_told(leaf) && !is_key(&leaf.0));
        leaves.values = leaves.full.iter().cloned().collect();
        leaves.short = short;
        leaves
    }

    fn append(&mut self, path: &str, note: &str) {
        if let Some((_, value)) = self.full.iter_mut().find(|(known, _)| known == path) {
            value.push_str(note);
            self.values.insert(path.to_owned(), value.clone());
        }
    }

    fn get(&self, path: &str) -> Option<&str> {
        self.values.get(path).map(String::as_str)
    }

    /// Whether a person would write the value, and not leave it to its default.
    fn is_written(&self, path: &str) -> bool {
        self.short.iter().any(|(written, _)| path.strip_prefix(written.as_str()).is_some_and(is_inside))
    }

    /// The lists that have the same items in another order.
    fn reordered(&self, new: &Leaves) -> Vec<Change> {
        let mut changes = Vec::new();
        for (path, old_order) in &self.orders {
            let Some(new_order) = new.orders.get(path) else { continue };
            let kept = |order: &[String], other: &[String]| -> Vec<String> {
                order.iter().filter(|name| other.contains(name)).cloned().collect()
            };
            let (old, new) = (kept(old_order, new_order), kept(new_order, old_order));
            if old != new {
                let shown = |names: &[String]| Some(format!("[{}]", names.join(", ")));
                changes.push(change(format!("{path} in order"), shown(&old), shown(&new)));
            }
        }
        changes
    }
}

/// Whether what follows a path leads to it or into it.
fn is_inside(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with(['.', '['])
}

/// What tells the items of a list apart.
const NAMED_BY: [&str; 2] = ["name", "target"];

fn walk(
    path: &str,
    value: &Json,
    leaves: &mut Vec<(String, String)>,
    orders: &mut BTreeMap<String, Vec<String>>,
) {
    match value {
        Json::Object(entries) if !entries.is_empty() => {
            for (key, value) in entries {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{}", step(key)) };
                walk(&path, value, leaves, orders);
            }
        }
        Json::Array(items) if items.iter().any(Json::is_object) => {
            for item in items {
                let mut item = item.clone();
                let name = NAMED_BY.iter().find_map(|field| item.as_object_mut()?.shift_remove(*field));
                let name = step(name.as_ref().and_then(Json::as_str).unwrap_or_default());
                walk(&format!("{path}[{name}]"), &item, leaves, orders);
                orders.entry(path.to_owned()).or_default().push(name);
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
fn show_moved_images(old: Declared<'_>, new: Declared<'_>, before: &mut Leaves, after: &mut Leaves) {
    let old_images = images(old);
    for (path, container) in images(new) {
        let Some((_, known)) = old_images.iter().find(|(known, _)| *known == path) else { continue };
        let (Some(was), Some(is)) = (&known.image.digest, &container.image.digest) else { continue };
        if was != is && known.image.reference == container.image.reference {
            before.append(&path, &format!(" ({was})"));
            after.append(&path, &format!(" ({is})"));
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
