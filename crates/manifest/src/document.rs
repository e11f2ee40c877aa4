//! From texts to services: each document is read and checked, then all of them are held against each other.

use std::collections::BTreeMap;

use model::{Protocol, ServiceKey, ServiceSpec};

use crate::check;
use crate::describe::{self, API_VERSION, Document};
use crate::errors::{Errors, Place, Problem};
use crate::path::Path;
use crate::reader::{Fault, Reader};
use crate::shape::Shape;
use crate::suggest;
use crate::tree::{self, MANY_LINES, Node, Span, Value};

/// A text and what to call it in errors: a file name, or `<stdin>`.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    pub name: &'a str,
    pub text: &'a str,
}

/// What a document declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Service,
}

/// One document, read and found to be good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub kind: Kind,
    pub key: ServiceKey,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub spec: ServiceSpec,
    /// Where its name stands.
    pub source: Place,
}

/// Longer texts are refused unread: a manifest has a few hundred lines.
pub(crate) const MAX_LEN: usize = 1 << 20;

/// The services that a text declares, in its order; or everything that is wrong with it.
pub fn parse(source_name: &str, text: &str) -> Result<Vec<Manifest>, Errors> {
    parse_all(&[Source { name: source_name, text }])
}

/// The same for several texts that are applied together: a service declared in two of them, or a port of the nodes
/// published in two, is an error as well.
pub fn parse_all(sources: &[Source<'_>]) -> Result<Vec<Manifest>, Errors> {
    let mut problems = Vec::new();
    let mut all = Vec::new();
    let mut left_out = 0;
    for source in sources {
        let lines = Lines::of(source);
        let (documents, mut faults) = read_source(source, &lines, &mut problems);
        faults.sort_by_key(|fault| (fault.at.line, fault.at.column));
        // Each problem has its line with it: a few are worth that, thousands are not.
        left_out += faults.len().saturating_sub(Errors::SHOWN);
        faults.truncate(Errors::SHOWN);
        problems.extend(faults.into_iter().map(|fault| lines.problem(fault)));
        all.extend(documents);
    }
    problems.extend(declared_twice(&all));
    problems.extend(published_twice(&all));
    if problems.is_empty() {
        Ok(all.into_iter().map(|read| read.manifest).collect())
    } else {
        Err(Errors::new(problems, left_out))
    }
}

/// A document and the places that those of other documents are compared with.
struct Read {
    manifest: Manifest,
    /// The ports of the nodes that it publishes; only of documents that are good otherwise.
    published: Vec<((u16, Protocol), Place)>,
}

fn read_source(
    source: &Source<'_>,
    lines: &Lines<'_>,
    problems: &mut Vec<Problem>,
) -> (Vec<Read>, Vec<Fault>) {
    if source.text.len() > MAX_LEN {
        let message = format!("this has {} bytes, and a manifest at most {MAX_LEN}", source.text.len());
        problems.push(lines.whole(message, "is it a manifest? split it into several files"));
        return (Vec::new(), Vec::new());
    }
    let (trees, mut faults) = tree::parse(lines.text);
    if trees.is_empty() && faults.is_empty() {
        let help = "a manifest begins with `apiVersion: wharf/v1` and `kind: Service`";
        problems.push(lines.whole("there is no document in it".to_owned(), help));
    }
    let mut documents = Vec::new();
    for tree in &trees {
        let mut reader = Reader::default();
        documents.extend(read_document(tree, &mut reader, lines));
        faults.append(&mut reader.faults);
    }
    (documents, faults)
}

/// Reads one document. It may be returned although faults were found, as far as its name could be read.
fn read_document(tree: &Node, reader: &mut Reader, lines: &Lines<'_>) -> Option<Read> {
    if let Some(fault) = foreign(tree) {
        reader.faults.push(fault);
        return None;
    }
    let document = describe::document().read(tree, reader)?;
    for finding in check::service(&document.spec) {
        let mut involved = finding.rests_on.iter().chain([&finding.at]);
        if involved.any(|path| reader.has_failed(path)) {
            continue;
        }
        let first = finding.rests_on.first().zip(finding.label);
        let related = first.map(|(path, label)| (tree.nearest(path).place(), label.to_owned()));
        let at = tree.nearest(&finding.at).place();
        reader.faults.push(Fault { message: finding.message, at, related, help: finding.help });
    }
    let name = Path::of("metadata.name");
    if reader.has_failed(&name) || reader.has_failed(&Path::of("metadata.namespace")) {
        return None;
    }
    let Document { kind, metadata, spec, .. } = document;
    let is_good = reader.faults.is_empty();
    let published = if is_good { published_ports(tree, &spec, lines) } else { Vec::new() };
    let key = ServiceKey { namespace: metadata.namespace, name: metadata.name };
    let (labels, annotations) = (metadata.labels, metadata.annotations);
    let source = lines.place(tree.nearest(&name).place());
    Some(Read { manifest: Manifest { kind, key, labels, annotations, spec, source }, published })
}

/// What is wrong with a document that was written for something else; nothing more needs to be said of it.
fn foreign(tree: &Node) -> Option<Fault> {
    let scalar = |key: &str| match tree.get(key).map(|node| (node, &node.value)) {
        Some((node, Value::Scalar(scalar))) => Some((scalar.text.as_str(), node.place())),
        Some((_, Value::List(_) | Value::Map(_))) | None => None,
    };
    let fault = |at, message: String, help: &str| {
        Some(Fault { message, at, related: None, help: Some(help.to_owned()) })
    };
    match (scalar("apiVersion"), scalar("kind")) {
        (Some((version, at)), kind)
            if version != API_VERSION && suggest::nearest(version, &[API_VERSION]).is_none() =>
        {
            let what = kind.map(|(kind, _)| format!(" (a {kind})")).unwrap_or_default();
            let help = "wharf's manifests say `apiVersion: wharf/v1`, `kind: Service`, and have the container's fields \
                        in `spec` itself";
            fault(at, format!("`apiVersion: {version}`{what} is not a manifest of wharf"), help)
        }
        (_, Some((kind, at))) if kind != "Service" && suggest::nearest(kind, &["Service"]).is_none() => {
            fault(
                at,
                format!("wharf has no kind `{kind}`"),
                &format!("the only kind is `Service`{}", other_kind(kind)),
            )
        }
        (None, None) => {
            let services = tree.get("services")?;
            let help = "each service is a document of its own, with `apiVersion: wharf/v1` and `kind: Service`; the \
                        documents are parted by `---`";
            fault(services.key_place(), "this looks like a Compose file".to_owned(), help)
        }
        _ => None,
    }
}

/// What a kind of Kubernetes becomes.
fn other_kind(kind: &str) -> &'static str {
    match kind {
        "Deployment" | "ReplicaSet" | "Pod" | "StatefulSet" => {
            ": replicas, image and ports stand in its `spec`"
        }
        "Ingress" => "; a port of it with `publish` is reached on every node",
        "ConfigMap" | "Secret" => ": its values go into `spec.env`, files into `spec.mounts`",
        "HorizontalPodAutoscaler" => "; its `replicas` are changed by `wharf scale`",
        _ => "",
    }
}

fn published_ports(tree: &Node, spec: &ServiceSpec, lines: &Lines<'_>) -> Vec<((u16, Protocol), Place)> {
    let ports = spec.template.ports.iter().enumerate();
    let published = ports.filter_map(|(i, port)| {
        let path = Path::of("spec.ports").at(i).at("publish");
        Some(((port.publish?, port.protocol), lines.place(tree.nearest(&path).place())))
    });
    published.collect()
}

fn declared_twice(all: &[Read]) -> Vec<Problem> {
    let named = all.iter().map(|read| (read.manifest.key.clone(), &read.manifest.source, &read.manifest.key));
    let message =
        |key: &ServiceKey, _: &ServiceKey, _: &ServiceKey| format!("the service `{key}` is declared twice");
    twice(named, message, "first declared here", "rename one of the two, or put it into another namespace")
}

fn published_twice(all: &[Read]) -> Vec<Problem> {
    let published =
        all.iter().flat_map(|read| read.published.iter().map(|(port, at)| (*port, at, &read.manifest.key)));
    let message = |(port, protocol): &(u16, Protocol), a: &ServiceKey, b: &ServiceKey| {
        format!("the services `{a}` and `{b}` both publish {port}/{}", protocol.as_str())
    };
    twice(published, message, "first published here", "publish one of them at another port of the nodes")
}

/// A problem for each key that an earlier service has already.
fn twice<'a, K: Ord>(
    keyed: impl Iterator<Item = (K, &'a Place, &'a ServiceKey)>,
    message: impl Fn(&K, &ServiceKey, &ServiceKey) -> String,
    label: &str,
    help: &str,
) -> Vec<Problem> {
    let mut seen: BTreeMap<K, (&Place, &ServiceKey)> = BTreeMap::new();
    let mut problems = Vec::new();
    for (key, at, service) in keyed {
        let Some((first, owner)) = seen.get(&key) else {
            seen.insert(key, (at, service));
            continue;
        };
        problems.push(Problem {
            message: message(&key, owner, service),
            at: Some(at.clone()),
            related: Some(((*first).clone(), label.to_owned())),
            help: Some(help.to_owned()),
            source_name: at.source_name.clone(),
        });
    }
    problems
}

/// The lines of a source, to show them beside what is wrong with them.
struct Lines<'a> {
    source_name: &'a str,
    /// Without the byte order mark that some editors put before it.
    text: &'a str,
    lines: Vec<&'a str>,
}

impl<'a> Lines<'a> {
    fn of(source: &Source<'a>) -> Lines<'a> {
        let text = source.text.strip_prefix('\u{feff}').unwrap_or(source.text);
        Lines { source_name: source.name, text, lines: tree::lines(text).collect() }
    }

    fn place(&self, span: Span) -> Place {
        let text = self.lines.get(span.line.saturating_sub(1)).copied().unwrap_or_default();
        let rest = text.trim_end().chars().count().saturating_sub(span.column);
        let length = if span.length == MANY_LINES { rest } else { span.length.min(rest) }.max(1);
        let source_name = self.source_name.to_owned();
        Place { source_name, line: span.line, column: span.column + 1, length, text: text.to_owned() }
    }

    fn problem(&self, fault: Fault) -> Problem {
        let Fault { message, at, related, help } = fault;
        let related = related.map(|(span, label)| (self.place(span), label));
        Problem { message, at: Some(self.place(at)), related, help, source_name: self.source_name.to_owned() }
    }

    /// A problem of the text as a whole.
    fn whole(&self, message: String, help: &str) -> Problem {
        let (help, source_name) = (Some(help.to_owned()), self.source_name.to_owned());
        Problem { message, at: None, related: None, help, source_name }
    }
}
