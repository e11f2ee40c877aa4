//! From a service back to its manifest.

use std::collections::BTreeMap;

use model::{Service, ServiceKey, ServiceSpec};
use serde_json::Value as Json;

use crate::check as rules;
use crate::describe::{self, Document, Metadata};
use crate::document::{Manifest, parse};
use crate::errors::{Errors, Problem};
use crate::shape::{Form, Room, Shape};
use crate::yaml::yaml;

/// What a manifest says of a service, wherever it is kept.
#[derive(Clone, Copy, Debug)]
pub struct Declared<'a> {
    pub key: &'a ServiceKey,
    pub labels: &'a BTreeMap<String, String>,
    pub annotations: &'a BTreeMap<String, String>,
    pub spec: &'a ServiceSpec,
}

impl<'a> From<&'a Manifest> for Declared<'a> {
    fn from(manifest: &'a Manifest) -> Declared<'a> {
        let Manifest { key, labels, annotations, spec, .. } = manifest;
        Declared { key, labels, annotations, spec }
    }
}

impl<'a> From<&'a Service> for Declared<'a> {
    fn from(service: &'a Service) -> Declared<'a> {
        let Service { key, labels, annotations, spec, .. } = service;
        Declared { key, labels, annotations, spec }
    }
}

impl Declared<'_> {
    fn document(&self) -> Document {
        let Declared { key, labels, annotations, spec } = *self;
        let metadata = Metadata {
            name: key.name.clone(),
            namespace: key.namespace.clone(),
            labels: labels.clone(),
            annotations: annotations.clone(),
        };
        Document::new(metadata, spec.clone())
    }
}

/// The manifest of a service, its fields in the order of the schema.
pub fn to_json<'a>(declared: impl Into<Declared<'a>>, form: Form) -> Json {
    describe::document().write(&declared.into().document(), form)
}

/// The same as YAML. What [`parse`] makes of it is the same service again, but for what a manifest cannot say: the
/// digests that images were resolved to, and how often a restart was asked for.
pub fn to_yaml<'a>(declared: impl Into<Declared<'a>>, form: Form) -> String {
    yaml(&to_json(declared, form))
}

/// Whether a manifest could have declared the service: for specs that came another way than through [`parse`].
pub fn check<'a>(declared: impl Into<Declared<'a>>) -> Result<(), Errors> {
    let declared = declared.into();
    let mut sayable = declared.document();
    sayable.spec.template.restart_nonce = 0;
    for container in sayable.spec.template.containers_mut() {
        container.image.digest = None;
    }
    let reread = describe::document().reread(&sayable, &mut Room::of_a_text());
    if reread.as_ref() == Some(&sayable) && rules::service(&sayable.spec).is_empty() {
        return Ok(());
    }
    // What is wrong is told with the lines of a manifest, so now it becomes one.
    check_text(declared, &sayable)
}

fn check_text(declared: Declared<'_>, sayable: &Document) -> Result<(), Errors> {
    const NAME: &str = "<spec>";
    let manifests = parse(NAME, &to_yaml(declared, Form::Full))?;
    let same = |read: &Manifest| Declared::from(read).document() == *sayable;
    match manifests.as_slice() {
        [read] if same(read) => Ok(()),
        _ => Err(Errors::new(
            vec![Problem {
                message: format!("no manifest could say what the spec of `{}` says", declared.key),
                at: None,
                related: None,
                help: Some("write it as a manifest and apply that".to_owned()),
                source_name: NAME.to_owned(),
            }],
            0,
        )),
    }
}
