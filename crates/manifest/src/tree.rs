//! The text of a manifest as a tree that knows where each part stands.
//!
//! YAML 1.2 with the core schema, and only what a manifest needs of it: no tags, no merge keys, keys are words.
//! Anchors and aliases work, bounded in what they expand to. Whatever YAML lets pass that is most likely a
//! mistake (a key given twice, a plain value that runs on over two lines) is a fault.
//!
//! Invariants: no node is deeper than [`MAX_DEPTH`], so that everything after this may recurse; a tree has at most
//! [`MAX_NODES`] nodes, however often aliases repeat them. Start reading at [`Builder::event`].

mod scalar;
mod syntax;

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};

pub(crate) use scalar::{Kind, Scalar};

use crate::path::{Path, Step};
use crate::reader::Fault;

/// Deeper than any manifest, and shallow enough to recurse.
const MAX_DEPTH: usize = 32;
pub(crate) const MAX_NODES: usize = 10_000;

/// Characters of one line: the line from 1, the column from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) length: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    /// Of the value itself: the whole of a scalar, the first character of a list or map.
    span: Span,
    /// Of the key that leads here.
    key: Option<Span>,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    /// In the order of the text; no key is twice in it.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// What a caret should point at: a scalar itself, but the key of anything that fills lines of its own.
    pub(crate) fn place(&self) -> Span {
        match &self.value {
            Value::Scalar(_) if self.span.length > 0 => self.span,
            Value::Scalar(_) | Value::List(_) => self.key.unwrap_or(self.span),
            Value::Map(entries) => {
                let first_key = entries.first().and_then(|(_, node)| node.key);
                self.key.or(first_key).unwrap_or(self.span)
            }
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.kind() == Kind::Null)
    }

    /// The key that leads here; the value where there is none.
    pub(crate) fn key_place(&self) -> Span {
        self.key.unwrap_or_else(|| self.place())
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(k, _)| k == key).map(|(_, node)| node),
            Value::Scalar(_) | Value::List(_) => None,
        }
    }

    /// The node at the path, or the last one on the way to it that exists.
    pub(crate) fn nearest(&self, path: &Path) -> &Node {
        let mut node = self;
        for step in path.steps() {
            let next = match (step, &node.value) {
                (Step::Key(key), Value::Map(_)) => node.get(key),
                (Step::Index(index), Value::List(items)) => items.get(*index),
                (Step::Key(_) | Step::Index(_), _) => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node
    }

    fn size(&self) -> usize {
        1 + match &self.value {
            Value::Scalar(_) => 0,
            Value::List(items) => items.iter().map(Node::size).sum(),
            Value::Map(entries) => entries.iter().map(|(_, node)| node.size()).sum(),
        }
    }

    fn depth(&self) -> usize {
        1 + match &self.value {
            Value::Scalar(_) => 0,
            Value::List(items) => items.iter().map(Node::depth).max().unwrap_or(0),
            Value::Map(entries) => entries.iter().map(|(_, node)| node.depth()).max().unwrap_or(0),
        }
    }
}

/// The lines of a text as YAML counts them: a carriage return alone ends one as well.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

/// The documents of a text that are not empty, and what is wrong with it as YAML. After a syntax error the rest of
/// the text cannot be read; the documents before it are still returned.
pub(crate) fn parse(text: &str) -> (Vec<Node>, Vec<Fault>) {
    let mut builder = Builder::default();
    for result in Parser::<StrInput<'_>>::new_from_str(text) {
        let outcome = match result {
            Ok((event, span)) => builder.event(event, span),
            Err(error) => Err(syntax::explain(&error, text)),
        };
        if let Err(fault) = outcome {
            builder.faults.push(fault);
            break;
        }
    }
    (builder.documents, builder.faults)
}

#[derive(Default)]
struct Builder {
    documents: Vec<Node>,
    faults: Vec<Fault>,
    /// The lists and maps that are still open, outermost first.
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

/// A list or a map of which the end has not been seen.
struct Open {
    span: Span,
    anchor: usize,
    parts: Parts,
}

enum Parts {
    List(Vec<Node>),
    Map {
        entries: Vec<(String, Node)>,
        /// The key whose value comes next.
        key: Option<(String, Span)>,
    },
}

impl Builder {
    /// Takes the next event; a fault is returned when it makes no sense to go on.
    fn event(&mut self, event: Event<'_>, span: saphyr_parser::Span) -> Result<(), Fault> {
        let span = from_parser(&span);
        if let Event::Scalar(_, _, _, Some(_))
        | Event::SequenceStart(_, Some(_))
        | Event::MappingStart(_, Some(_)) = event
        {
            let help = "write the value without it; quotes make a text of anything: \"5\"";
            self.fault(span, "YAML tags (`!...`) have no meaning in a manifest".to_owned(), Some(help));
        }
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.anchors.clear();
                self.nodes = 0;
                Ok(())
            }
            Event::Scalar(text, style, anchor, _) => self.scalar(text.into_owned(), style, anchor, span),
            Event::Alias(anchor) => self.alias(anchor, span),
            Event::SequenceStart(anchor, _) => self.open(span, anchor, Parts::List(Vec::new())),
            Event::MappingStart(anchor, _) => {
                self.open(span, anchor, Parts::Map { entries: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
        }
    }

    fn scalar(&mut self, text: String, style: ScalarStyle, anchor: usize, span: Span) -> Result<(), Fault> {
        let plain = style == ScalarStyle::Plain;
        if let Some(Open { parts: Parts::Map { key: key @ None, .. }, .. }) = self.open.last_mut() {
            *key = Some((text, span));
            return Ok(());
        }
        if span.length == MANY_LINES && plain {
            let help = "quote it to join the lines, or write `|` and the lines below; is the next line indented too far?";
            self.fault(span, "this value runs on over more than one line".to_owned(), Some(help));
        }
        self.node(Node { value: Value::Scalar(Scalar { text, plain }), span, key: None }, anchor)
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Fault> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err(plain_fault(span, "this alias lies inside what its own anchor marks", None));
        };
        if self.open.len() + node.depth() > MAX_DEPTH {
            return Err(too_deep(span));
        }
        if let Some(Open { parts: Parts::Map { key: None, .. }, .. }) = self.open.last() {
            return Err(plain_fault(span, "an alias cannot be a key", Some("write the key itself")));
        }
        self.nodes += node.size();
        // The key is the one before the alias; what lies below it keeps the places that the anchor gave it.
        self.node(Node { key: None, ..node }, 0)
    }

    fn open(&mut self, span: Span, anchor: usize, parts: Parts) -> Result<(), Fault> {
        if let Some(Open { parts: Parts::Map { key: None, .. }, .. }) = self.open.last() {
            let help = "a key is a word; a text that begins with `{` or `[` has to be quoted";
            return Err(plain_fault(span, "a list or map cannot be a key", Some(help)));
        }
        if self.open.len() + 1 >= MAX_DEPTH {
            return Err(too_deep(span));
        }
        self.open.push(Open { span, anchor, parts });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Fault> {
        let Some(Open { span, anchor, parts }) = self.open.pop() else {
            return Ok(());
        };
        let value = match parts {
            Parts::List(items) => Value::List(items),
            Parts::Map { entries, .. } => Value::Map(entries),
        };
        self.node(Node { value, span, key: None }, anchor)
    }

    /// Puts a finished node where it belongs: into the innermost list or map, or as a document of its own.
    fn node(&mut self, mut node: Node, anchor: usize) -> Result<(), Fault> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let message = format!("this document has more than {MAX_NODES} values");
            return Err(plain_fault(node.place(), &message, Some("aliases count as often as they are used")));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.parts) {
            Some(Parts::List(items)) => items.push(node),
            Some(Parts::Map { entries, key }) => {
                let Some((key, span)) = key.take() else { return Ok(()) };
                node.key = Some(span);
                match entries.iter().find(|(known, _)| *known == key) {
                    _ if key == "<<" => self.faults.push(merge_key(span)),
                    Some((_, first)) => self.faults.push(duplicate_key(&key, span, first.key_place())),
                    None => entries.push((key, node)),
                }
            }
            None => {
                if !node.is_null() {
                    self.documents.push(node);
                }
            }
        }
        Ok(())
    }

    fn fault(&mut self, at: Span, message: String, help: Option<&str>) {
        self.faults.push(plain_fault(at, &message, help));
    }
}

fn plain_fault(at: Span, message: &str, help: Option<&str>) -> Fault {
    Fault { message: message.to_owned(), at, related: None, help: help.map(str::to_owned) }
}

fn too_deep(at: Span) -> Fault {
    plain_fault(at, &format!("this is nested more than {MAX_DEPTH} levels deep"), None)
}

fn merge_key(at: Span) -> Fault {
    let help = "write the entries out; an alias (`env: *common`) takes over a whole value";
    plain_fault(at, "merge keys (`<<`) are not part of YAML 1.2", Some(help))
}

fn duplicate_key(key: &str, at: Span, first: Span) -> Fault {
    Fault {
        message: format!("`{key}` is given twice"),
        at,
        related: Some((first, "first given here".to_owned())),
        help: Some("keep one of the two".to_owned()),
    }
}

/// The length of a span that goes on beyond its first line; the renderer marks it to the end of that line.
pub(crate) const MANY_LINES: usize = usize::MAX;

fn from_parser(span: &saphyr_parser::Span) -> Span {
    let (start, end) = (span.start, span.end);
    let length = if start.line() == end.line() { end.col().saturating_sub(start.col()) } else { MANY_LINES };
    Span { line: start.line(), column: start.col(), length }
}
