//! Values without parts: text, numbers, booleans and words out of a list.
//!
//! Each leaf completes the sentence "`spec.x` must be ..." and gives the fix where it can guess what was meant.
//! Those with a meaning of their own are in the submodules: [`amount`] (spans of time, cpu, memory, shares) and
//! [`word`] (names, images, paths, signals and the like).

pub(crate) mod amount;
pub(crate) mod word;

use std::fmt;

use serde_json::{Value as Json, json};

use crate::reader::Reader;
use crate::shape::{Defs, Form, Room, Shape, wrong_kind};
use crate::tree::{Kind, Node, Scalar, Value};
use crate::{hints, suggest};

/// Why a scalar is no value of a leaf.
#[derive(Debug)]
pub(crate) enum Wrong {
    /// It is of another kind, say a number where text is wanted.
    Kind,
    /// "must be {what}, not {the value}".
    Value,
    /// The same, with the fix.
    Fix(String),
    /// Another sentence: follows the name of the field.
    Says(String, Option<String>),
}

pub(crate) struct Leaf<V> {
    /// Completes "must be".
    pub(crate) what: &'static str,
    pub(crate) read: fn(&Scalar) -> Result<V, Wrong>,
    pub(crate) write: fn(&V) -> Json,
    pub(crate) schema: fn() -> Json,
}

impl<V> Shape for Leaf<V> {
    type Value = V;

    fn read(&self, node: &Node, reader: &mut Reader) -> Option<V> {
        read_scalar(node, self.what, reader, self.read)
    }

    fn write(&self, value: &V, _form: Form) -> Json {
        (self.write)(value)
    }

    fn reread(&self, value: &V, room: &mut Room) -> Option<V> {
        let written = scalar((self.write)(value))?;
        room.take(written.text.len())?;
        (self.read)(&written).ok()
    }

    fn schema(&self, _defs: &mut Defs) -> Json {
        (self.schema)()
    }
}

/// As it is read where it was written.
fn scalar(written: Json) -> Option<Scalar> {
    match written {
        Json::String(text) => Some(Scalar { text, plain: false }),
        Json::Bool(_) | Json::Number(_) => Some(Scalar { text: written.to_string(), plain: true }),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

fn read_scalar<V>(
    node: &Node,
    what: &str,
    reader: &mut Reader,
    read: impl Fn(&Scalar) -> Result<V, Wrong>,
) -> Option<V> {
    let scalar = match &node.value {
        Value::Scalar(scalar) if scalar.kind() != Kind::Null => scalar,
        Value::Scalar(_) | Value::List(_) | Value::Map(_) => {
            wrong_kind(node, what, None, reader);
            return None;
        }
    };
    let wrong = match read(scalar) {
        Ok(value) => return Some(value),
        Err(wrong) => wrong,
    };
    let path = reader.path().to_string();
    let not = |help| (format!("`{path}` must be {what}, not {}", Quoted(scalar)), help);
    let (message, help) = match wrong {
        Wrong::Kind => {
            wrong_kind(node, what, kind_fix(scalar), reader);
            return None;
        }
        Wrong::Value => not(None),
        Wrong::Fix(help) => not(Some(help)),
        Wrong::Says(sentence, help) => (format!("`{path}` {sentence}"), help),
    };
    reader.fault(node.place(), message, help);
    None
}

/// What quotes have to do with it.
fn kind_fix(scalar: &Scalar) -> Option<String> {
    let unquoted = Scalar { text: scalar.text.clone(), plain: true };
    match (scalar.plain, unquoted.kind()) {
        (true, Kind::Bool(_) | Kind::Int | Kind::Float) => {
            Some(format!("put it in quotes to make it text: \"{}\"", scalar.text))
        }
        (false, Kind::Bool(_) | Kind::Int | Kind::Float) => {
            Some(format!("remove the quotes: {}", scalar.text))
        }
        (_, Kind::Null | Kind::Text) => None,
    }
}

/// A value as it stands in the manifest, cut where it gets long.
struct Quoted<'a>(&'a Scalar);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text: String = self.0.text.chars().take(60).collect();
        if text.len() < self.0.text.len() {
            text.push('…');
        }
        if self.0.kind() == Kind::Text { write!(f, "{text:?}") } else { write!(f, "{text}") }
    }
}

/// The text of a scalar that is text; a number or boolean has to be quoted to be text.
fn text(scalar: &Scalar) -> Result<&str, Wrong> {
    match scalar.kind() {
        Kind::Text => Ok(&scalar.text),
        Kind::Null | Kind::Bool(_) | Kind::Int | Kind::Float => Err(Wrong::Kind),
    }
}

/// Any text but one with a NUL, which no system call could take.
fn without_nul(scalar: &Scalar) -> Result<String, Wrong> {
    match text(scalar)? {
        text if text.contains('\0') => Err(Wrong::Says("cannot contain a NUL character".to_owned(), None)),
        text => Ok(text.to_owned()),
    }
}

pub(crate) const TEXT: Leaf<String> = Leaf {
    what: "text",
    read: without_nul,
    write: |text| json!(text),
    schema: || json!({ "type": "string", "pattern": r"^[^\x00]*$" }),
};

pub(crate) const BOOLEAN: Leaf<bool> = Leaf {
    what: "`true` or `false`",
    read: |scalar| match (scalar.kind(), scalar.text.as_str()) {
        (Kind::Bool(value), _) => Ok(value),
        (Kind::Text, "yes" | "Yes" | "YES" | "on" | "On" | "y") => Err(Wrong::Fix("write `true`".to_owned())),
        (Kind::Text, "no" | "No" | "NO" | "off" | "Off" | "n") => Err(Wrong::Fix("write `false`".to_owned())),
        _ => Err(Wrong::Kind),
    },
    write: |value| json!(value),
    schema: || json!({ "type": "boolean" }),
};

/// A whole number of a range.
#[derive(Debug)]
pub(crate) struct Int<N> {
    pub(crate) min: N,
    pub(crate) max: N,
}

impl<N> Shape for Int<N>
where
    N: Copy + PartialOrd + fmt::Display + TryFrom<u64> + Into<u64>,
{
    type Value = N;

    fn read(&self, node: &Node, reader: &mut Reader) -> Option<N> {
        let what = format!("a whole number from {} to {}", self.min, self.max);
        read_scalar(node, &what, reader, |scalar| match scalar.kind() {
            Kind::Int => {
                let value = number(&scalar.text).and_then(|value| N::try_from(value).ok());
                value.filter(|value| (self.min..=self.max).contains(value)).ok_or(Wrong::Value)
            }
            Kind::Float => Err(Wrong::Value),
            Kind::Null | Kind::Bool(_) | Kind::Text => Err(Wrong::Kind),
        })
    }

    fn write(&self, value: &N, _form: Form) -> Json {
        json!((*value).into())
    }

    fn reread(&self, value: &N, room: &mut Room) -> Option<N> {
        room.take(0)?;
        Some(*value).filter(|value| (self.min..=self.max).contains(value))
    }

    fn schema(&self, _defs: &mut Defs) -> Json {
        json!({ "type": "integer", "minimum": self.min.into(), "maximum": self.max.into() })
    }
}

/// A whole number as YAML writes it; none when it is negative or beyond 64 bits.
fn number(text: &str) -> Option<u64> {
    if let Some(hex) = text.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok();
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return u64::from_str_radix(octal, 8).ok();
    }
    match text.strip_prefix('-') {
        Some(digits) => (digits.bytes().all(|b| b == b'0')).then_some(0),
        None => text.strip_prefix('+').unwrap_or(text).parse().ok(),
    }
}

/// One of a few words.
#[derive(Debug)]
pub(crate) struct OneOf<V: 'static>(pub(crate) &'static [(&'static str, V)]);

impl<V: Copy + PartialEq> Shape for OneOf<V> {
    type Value = V;

    fn read(&self, node: &Node, reader: &mut Reader) -> Option<V> {
        let words: Vec<&str> = self.0.iter().map(|(word, _)| *word).collect();
        let what = match words.as_slice() {
            [only] => format!("`{only}`"),
            [most @ .., last] => format!("`{}` or `{last}`", most.join("`, `")),
            [] => "nothing".to_owned(),
        };
        read_scalar(node, &what, reader, |scalar| {
            let known = self.0.iter().find(|(word, _)| *word == scalar.text);
            known.map(|(_, value)| *value).ok_or_else(|| {
                let foreign = hints::for_word(&scalar.text).filter(|word| words.contains(word));
                match (suggest::nearest(&scalar.text, &words), foreign) {
                    (Some(near), _) => Wrong::Fix(format!("did you mean `{near}`?")),
                    (None, Some(word)) => Wrong::Fix(format!("here it is called `{word}`")),
                    (None, None) => Wrong::Value,
                }
            })
        })
    }

    fn write(&self, value: &V, _form: Form) -> Json {
        let known = self.0.iter().find(|(_, known)| known == value);
        known.map(|(word, _)| json!(word)).unwrap_or_default()
    }

    fn reread(&self, value: &V, room: &mut Room) -> Option<V> {
        room.take(0)?;
        Some(*value).filter(|value| self.0.iter().any(|(_, known)| known == value))
    }

    fn schema(&self, _defs: &mut Defs) -> Json {
        json!({ "enum": self.0.iter().map(|(word, _)| *word).collect::<Vec<_>>() })
    }
}
