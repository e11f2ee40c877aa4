//! How one kind of value is read, written and described: the three at once, so that they cannot disagree.
//!
//! A [`Shape`] reads a node into a value, writes the value back, and gives its JSON schema. Leaves are in
//! [`crate::leaf`]; this module has what is built from them: lists, maps and [`record::Record`]. The shapes of a
//! service are put together in [`crate::describe`], and nothing else in this crate knows the name of a field.

pub(crate) mod record;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json, json};

use crate::document::MAX_LEN;
use crate::reader::Reader;
use crate::tree::{Kind, MAX_NODES, Node, Scalar, Value};

/// How much of a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// What a person would write: what equals its default is left out.
    Short,
    /// With every default spelled out; only what is absent or empty is left out.
    Full,
}

/// The named schemas that others refer to.
#[derive(Debug, Default)]
pub(crate) struct Defs(pub(crate) Map<String, Json>);

pub(crate) trait Shape {
    type Value;

    /// The value of the node; none when it is wrong, and then the reader has been told why.
    fn read(&self, node: &Node, reader: &mut Reader) -> Option<Self::Value>;

    fn write(&self, value: &Self::Value, form: Form) -> Json;

    /// What reading gives of the value once it is written in full, without the text between; none when it would be
    /// wrong, or when there is no room for so much.
    fn reread(&self, value: &Self::Value, room: &mut Room) -> Option<Self::Value>;

    fn schema(&self, defs: &mut Defs) -> Json;
}

/// What may still be written before a text is too long to be read, at the least: in bytes.
#[derive(Debug)]
pub(crate) struct Room(usize);

impl Room {
    /// Beside its characters, no value takes more of a line.
    const PER_VALUE: usize = 128;
    /// No character takes more, escaped.
    const PER_BYTE: usize = 10;

    pub(crate) fn of_a_text() -> Room {
        Room(MAX_LEN)
    }

    /// For one value, and for what is written of it and of its key.
    pub(crate) fn take(&mut self, characters: usize) -> Option<()> {
        self.0 = self.0.checked_sub(Room::PER_VALUE + Room::PER_BYTE * characters)?;
        Some(())
    }
}

// The values of a text that there is room for are fewer than a tree may have.
const _: () = assert!(MAX_LEN / Room::PER_VALUE < MAX_NODES);

/// Says that a node is not of the kind that is wanted here. `wanted` completes "must be"; `fix` is how to write it,
/// unless the text shows a likelier mistake.
pub(crate) fn wrong_kind(node: &Node, wanted: &str, fix: Option<String>, reader: &mut Reader) {
    let path = shown_path(reader);
    let found = match &node.value {
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
        Value::Scalar(scalar) => match scalar.kind() {
            Kind::Null => {
                let help = fix.unwrap_or_else(|| format!("write {wanted}, or remove the line"));
                return reader.fault(node.place(), format!("{path} has no value"), Some(help));
            }
            Kind::Bool(_) => "a boolean",
            Kind::Int | Kind::Float => "a number",
            Kind::Text => "text",
        },
    };
    let help = missing_space(node).or(fix);
    reader.fault(node.place(), format!("{path} must be {wanted}, but is {found}"), help);
}

fn shown_path(reader: &Reader) -> String {
    match reader.path().to_string().as_str() {
        "" => "a manifest".to_owned(),
        path => format!("`{path}`"),
    }
}

/// `name:value` is one word in YAML.
fn missing_space(node: &Node) -> Option<String> {
    let Value::Scalar(Scalar { text, plain: true }) = &node.value else { return None };
    let (key, value) = text.split_once(':')?;
    let is_word =
        key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.chars().all(|c| c.is_ascii_alphanumeric());
    (is_word && !value.starts_with("//"))
        .then(|| format!("an entry has a space after its colon: `{key}: {value}`"))
}

/// How to write something as a list that is none.
fn as_a_list(value: &Value) -> Option<String> {
    let is_word = |word: &str| word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-=".contains(c));
    match value {
        Value::Scalar(scalar) if scalar.kind() == Kind::Null => None,
        Value::Scalar(Scalar { text, .. }) if text.split(' ').all(is_word) => {
            Some(format!("write `[{}]`", text.split_whitespace().collect::<Vec<_>>().join(", ")))
        }
        Value::Scalar(_) | Value::List(_) | Value::Map(_) => Some(
            "a list is written `[a, b]`, or each item on a line of its own that begins with `- `".to_owned(),
        ),
    }
}

/// Several of the same, in order. No item at all when one of them is wrong: what refers to them by position must
/// not find another.
#[derive(Debug)]
pub(crate) struct List<S> {
    pub(crate) item: S,
    pub(crate) min: usize,
    pub(crate) max: usize,
}

impl<S: Shape> List<S> {
    fn items(&self, node: &Node, reader: &mut Reader) -> Option<Vec<S::Value>> {
        let Value::List(items) = &node.value else {
            wrong_kind(node, "a list", as_a_list(&node.value), reader);
            return None;
        };
        let List { min, max, .. } = self;
        let says = match items.len() {
            0 if *min > 0 => {
                Some(("is empty".to_owned(), "write at least one item, or remove the line".to_owned()))
            }
            len if len > *max => Some((format!("has {len} items"), format!("at most {max} are possible"))),
            _ => None,
        };
        if let Some((says, help)) = says {
            reader.fault(node.key_place(), format!("`{}` {says}", reader.path()), Some(help));
            return None;
        }
        let read: Vec<_> =
            items.iter().enumerate().map(|(i, item)| reader.inside(i, |r| self.item.read(item, r))).collect();
        read.into_iter().collect()
    }

    fn reread_items<'a>(
        &self,
        items: impl ExactSizeIterator<Item = &'a S::Value>,
        room: &mut Room,
    ) -> Option<Vec<S::Value>>
    where
        S::Value: 'a,
    {
        room.take(0)?;
        let fits = (self.min..=self.max).contains(&items.len());
        fits.then(|| items.map(|item| self.item.reread(item, room)).collect())?
    }

    fn schema(&self, defs: &mut Defs) -> Json {
        let mut schema = json!({ "type": "array", "items": self.item.schema(defs), "maxItems": self.max });
        if self.min > 0 {
            schema["minItems"] = json!(self.min);
        }
        schema
    }
}

impl<S: Shape> Shape for List<S> {
    type Value = Vec<S::Value>;

    fn read(&self, node: &Node, reader: &mut Reader) -> Option<Self::Value> {
        self.items(node, reader)
    }

    fn write(&self, value: &Self::Value, form: Form) -> Json {
        value.iter().map(|item| self.item.write(item, form)).collect()
    }

    fn reread(&self, value: &Self::Value, room: &mut Room) -> Option<Self::Value> {
        self.reread_items(value.iter(), room)
    }

    fn schema(&self, defs: &mut Defs) -> Json {
        self.schema(defs)
    }
}

/// A list without order in which nothing is twice.
#[derive(Debug)]
pub(crate) struct Set<S>(pub(crate) List<S>);

impl<S: Shape> Shape for Set<S>
where
    S::Value: Ord + std::fmt::Display,
{
    type Value = BTreeSet<S::Value>;

    fn read(&self, node: &Node, reader: &mut Reader) -> Option<Self::Value> {
        let mut set = BTreeSet::new();
        for (i, item) in self.0.items(node, reader)?.into_iter().enumerate() {
            if let Some(known) = set.replace(item) {
                reader.inside(i, |reader| {
                    let at = match &node.value {
                        Value::List(nodes) => nodes[i].place(),
                        Value::Scalar(_) | Value::Map(_) => node.place(),
                    };
                    reader.fault(
                        at,
                        format!("`{known}` is in the list twice"),
                        Some("keep one of the two".into()),
                    );
                });
            }
        }
        Some(set)
    }

    fn write(&self, value: &Self::Value, form: Form) -> Json {
        value.iter().map(|item| self.0.item.write(item, form)).collect()
    }

    fn reread(&self, value: &Self::Value, room: &mut Room) -> Option<Self::Value> {
        self.0.reread_items(value.iter(), room).map(BTreeSet::from_iter)
    }

    fn schema(&self, defs: &mut Defs) -> Json {
        let mut schema = self.0.schema(defs);
        schema["uniqueItems"] = json!(true);
        schema
    }
}

/// Free names to values.
#[derive(Debug)]
pub(crate) struct Table<S> {
    /// Completes "must be", for the names.
    pub(crate) key_what: &'static str,
    pub(crate) key_pattern: &'static str,
    pub(crate) key_is_good: fn(&str) -> bool,
    pub(crate) value: S,
}

impl<S: Shape> Shape for Table<S> {
    type Value = BTreeMap<String, S::Value>;

    fn read(&self, node: &Node, reader: &mut Reader) -> Option<Self::Value> {
        let Value::Map(entries) = &node.value else {
            let fix = (!node.is_null()).then(|| "write `NAME: value` on each line, without `-`".to_owned());
            wrong_kind(node, "a map", fix, reader);
            return None;
        };
        let mut table = BTreeMap::new();
        for (key, node) in entries {
            reader.inside(key.as_str(), |reader| {
                if !(self.key_is_good)(key) {
                    let message = format!("the name `{key}` must be {}", self.key_what);
                    reader.fault(node.key_place(), message, None);
                }
                if let Some(value) = self.value.read(node, reader) {
                    table.insert(key.clone(), value);
                }
            });
        }
        Some(table)
    }

    fn write(&self, value: &Self::Value, form: Form) -> Json {
        Json::Object(value.iter().map(|(key, value)| (key.clone(), self.value.write(value, form))).collect())
    }

    fn reread(&self, value: &Self::Value, room: &mut Room) -> Option<Self::Value> {
        room.take(0)?;
        let entry = |(key, value): (&String, &S::Value)| {
            room.take(key.len())?;
            let is_good = (self.key_is_good)(key);
            Some((key.clone(), self.value.reread(value, room).filter(|_| is_good)?))
        };
        value.iter().map(entry).collect()
    }

    fn schema(&self, defs: &mut Defs) -> Json {
        json!({
            "type": "object",
            "propertyNames": { "pattern": self.key_pattern },
            "additionalProperties": self.value.schema(defs),
        })
    }
}

/// Read and written as something else, where the model has another form than the manifest.
pub(crate) struct Via<S: Shape, V> {
    pub(crate) shape: S,
    /// None only where `shape` has already told the reader what is missing.
    pub(crate) into: fn(S::Value) -> Option<V>,
    pub(crate) from: fn(&V, Form) -> S::Value,
}

impl<S: Shape, V> Shape for Via<S, V> {
    type Value = V;

    fn read(&self, node: &Node, reader: &mut Reader) -> Option<V> {
        self.shape.read(node, reader).and_then(self.into)
    }

    fn write(&self, value: &V, form: Form) -> Json {
        self.shape.write(&(self.from)(value, form), form)
    }

    fn reread(&self, value: &V, room: &mut Room) -> Option<V> {
        self.shape.reread(&(self.from)(value, Form::Full), room).and_then(self.into)
    }

    fn schema(&self, defs: &mut Defs) -> Json {
        self.shape.schema(defs)
    }
}
