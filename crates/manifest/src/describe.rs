//! What a manifest can say: every field, once.
//!
//! The order of the fields is the order in which they are written. What a record's base has is the default; it is
//! what the schema shows and what the short form leaves out.

pub(crate) mod container;
pub(crate) mod mount;
pub(crate) mod placement;
pub(crate) mod probe;
pub(crate) mod template;

use std::{collections::BTreeMap, sync::LazyLock};

use model::{Name, ServiceSpec, node::is_label_name};

use crate::document::Kind;
use crate::leaf::word::{LABEL_NAME_PATTERN, LABEL_VALUE, NAME};
use crate::leaf::{Int, Leaf, OneOf, TEXT};
use crate::shape::record::{Fields, Record, lens};
use crate::shape::{Table, Via};
use crate::update::{self, Asked};

/// A document as it is written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Document {
    api_version: ApiVersion,
    pub(crate) kind: Kind,
    pub(crate) metadata: Metadata,
    pub(crate) spec: ServiceSpec,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ApiVersion {
    V1,
}

pub(crate) const API_VERSION: &str = "wharf/v1";

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Metadata {
    pub(crate) name: Name,
    pub(crate) namespace: Name,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// A name that is written in this crate and therefore one.
pub(crate) fn known_name(name: &'static str) -> Name {
    Name::new(name).unwrap_or_else(|error| panic!("{name:?} in the source of this crate: {error}"))
}

/// Stands in for a name that is missing or wrong, in values that are never handed out.
pub(crate) fn no_name() -> Name {
    known_name("unnamed")
}

impl Document {
    pub(crate) fn new(metadata: Metadata, spec: ServiceSpec) -> Document {
        Document { api_version: ApiVersion::V1, kind: Kind::Service, metadata, spec }
    }
}

impl Metadata {
    fn base() -> Metadata {
        let (labels, annotations) = (BTreeMap::new(), BTreeMap::new());
        Metadata { name: no_name(), namespace: known_name("default"), labels, annotations }
    }
}

/// The whole of a document. Made once.
pub(crate) fn document() -> &'static Record<Document> {
    static DOCUMENT: LazyLock<Record<Document>> = LazyLock::new(make_document);
    &DOCUMENT
}

fn make_document() -> Record<Document> {
    let fields = Fields::<Document>::new()
        .required(
            "apiVersion",
            "The version of this format: `wharf/v1`.",
            OneOf(&[(API_VERSION, ApiVersion::V1)]),
            lens!(api_version),
        )
        .required("kind", "What is declared: `Service`.", OneOf(&[("Service", Kind::Service)]), lens!(kind))
        .required("metadata", "What it is called.", metadata(), lens!(metadata))
        .required("spec", "What it should be.", service(), lens!(spec));
    let base = Document::new(Metadata::base(), template::base_service());
    Record::new("Manifest", "A wharf manifest: one service.", base, fields)
}

fn metadata() -> Record<Metadata> {
    let fields = Fields::<Metadata>::new()
        .required("name", "The name of the service in its namespace: a DNS label.", NAME, lens!(name))
        .field("namespace", "Keeps services apart that have the same name.", NAME, lens!(namespace))
        .field(
            "labels",
            "Short texts to group and find services by; they do not reach the containers.",
            named(LABEL_VALUE),
            lens!(labels),
        )
        .field(
            "annotations",
            "Any other text that is to be kept with the service, for people and tools.",
            named(TEXT),
            lens!(annotations),
        );
    Record::new("Metadata", "What a service is called, and what is noted of it.", Metadata::base(), fields)
}

pub(crate) fn named(value: Leaf<String>) -> Table<Leaf<String>> {
    Table {
        key_what: "at most 253 letters, digits, `.`, `_`, `-` and `/`, with a letter or digit at both ends",
        key_pattern: LABEL_NAME_PATTERN,
        key_is_good: is_label_name,
        value,
    }
}

/// A spec as it is written: what the update policy leaves open depends on all the rest.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) spec: ServiceSpec,
    pub(crate) update: Asked,
}

pub(crate) fn service() -> Via<Record<Written>, ServiceSpec> {
    let fields = Fields::<Written>::new()
        .field("replicas", "How many replicas should run.", Int { min: 0, max: 10_000 }, lens!(spec.replicas))
        .include(container::program(), lens!(spec.template.main))
        .include(template::ports(), lens!(spec.template))
        .include(container::resources(), lens!(spec.template.main))
        .include(container::health(), lens!(spec.template.main))
        .include(container::rights(), lens!(spec.template.main))
        .include(template::lifecycle(), lens!(spec.template))
        .field(
            "update",
            "How replicas are replaced when anything of the spec but `replicas`, `update`, `placement` and `nodeLoss` changes.",
            update::shape(),
            lens!(update),
        )
        .field("placement", "Which nodes the replicas go to.", placement::rules(), lens!(spec.placement))
        .field(
            "nodeLoss",
            "What becomes of replicas whose node is lost.",
            placement::node_loss(),
            lens!(spec.node_loss),
        )
        .include(template::other_containers(), lens!(spec.template));
    let base = Written { spec: template::base_service(), update: Asked::nothing() };
    let about =
        "What a service should be. The fields of its main container stand here, beside those of the service.";
    Via {
        shape: Record::new("Service", about, base, fields),
        into: |written| {
            let update = written.update.resolve(&written.spec.template);
            Some(ServiceSpec { update, ..written.spec })
        },
        from: |spec, form| Written { spec: spec.clone(), update: Asked::of(spec, form) },
    }
}
