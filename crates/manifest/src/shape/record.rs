//! A map with fixed fields: each described once, by its name, what it is for, its shape, and where its value lives.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::{Defs, Form, Room, Shape, wrong_kind};
use crate::hints;
use crate::reader::Reader;
use crate::tree::{Node, Value};

/// Where in a `T` a `V` lives.
pub(crate) struct Lens<T, V> {
    pub(crate) get: fn(&T) -> &V,
    pub(crate) get_mut: fn(&mut T) -> &mut V,
}

/// `lens!(a.b)`: the field `b` of the field `a`.
macro_rules! lens {
    ($($field:ident).+) => {
        $crate::shape::record::Lens { get: |t| &t.$($field).+, get_mut: |t| &mut t.$($field).+ }
    };
}
pub(crate) use lens;

type Read<T> = Box<dyn Fn(&Node, &mut T, &mut Reader) + Send + Sync>;
type Write<T> = Box<dyn Fn(&T, Form) -> Option<Json> + Send + Sync>;
type Reread<T> = Box<dyn Fn(&T, &mut T, &mut Room) -> Option<()> + Send + Sync>;

struct Field<T> {
    name: &'static str,
    about: &'static str,
    required: bool,
    read: Read<T>,
    /// None where there is no value.
    write: Write<T>,
    /// From the one into the other; none where it would be wrong.
    reread: Reread<T>,
    schema: Box<dyn Fn(&mut Defs) -> Json + Send + Sync>,
}

/// Fields in the order in which they are written.
pub(crate) struct Fields<T>(Vec<Field<T>>);

impl<T: 'static> Fields<T> {
    pub(crate) fn new() -> Fields<T> {
        Fields(Vec::new())
    }

    /// A field whose default is what the record's base has.
    pub(crate) fn field<S: Shape + Send + Sync + 'static>(
        self,
        name: &'static str,
        about: &'static str,
        shape: S,
        lens: Lens<T, S::Value>,
    ) -> Fields<T> {
        self.always(name, about, shape, false, lens)
    }

    /// A field without which the record makes no sense.
    pub(crate) fn required<S: Shape + Send + Sync + 'static>(
        self,
        name: &'static str,
        about: &'static str,
        shape: S,
        lens: Lens<T, S::Value>,
    ) -> Fields<T> {
        self.always(name, about, shape, true, lens)
    }

    fn always<S: Shape + Send + Sync + 'static>(
        mut self,
        name: &'static str,
        about: &'static str,
        shape: S,
        required: bool,
        lens: Lens<T, S::Value>,
    ) -> Fields<T> {
        let shape = Arc::new(shape);
        let (reads, writes, rereads, describes) = (shape.clone(), shape.clone(), shape.clone(), shape);
        let read: Read<T> = Box::new(move |node, target, reader| {
            if let Some(value) = reads.read(node, reader) {
                *(lens.get_mut)(target) = value;
            }
        });
        let write: Write<T> = Box::new(move |value, form| Some(writes.write((lens.get)(value), form)));
        let reread: Reread<T> = Box::new(move |value, target, room| {
            *(lens.get_mut)(target) = rereads.reread((lens.get)(value), room)?;
            Some(())
        });
        let schema = Box::new(move |defs: &mut Defs| describes.schema(defs));
        self.0.push(Field { name, about, required, read, write, reread, schema });
        self
    }

    /// A field that may have no value.
    pub(crate) fn optional<S: Shape + Send + Sync + 'static>(
        mut self,
        name: &'static str,
        about: &'static str,
        shape: S,
        lens: Lens<T, Option<S::Value>>,
    ) -> Fields<T> {
        let shape = Arc::new(shape);
        let (reads, writes, rereads, describes) = (shape.clone(), shape.clone(), shape.clone(), shape);
        let read: Read<T> = Box::new(move |node, target, reader| {
            if let Some(value) = reads.read(node, reader) {
                *(lens.get_mut)(target) = Some(value);
            }
        });
        let write: Write<T> =
            Box::new(move |value, form| Some(writes.write((lens.get)(value).as_ref()?, form)));
        let reread: Reread<T> = Box::new(move |value, target, room| {
            if let Some(value) = (lens.get)(value) {
                *(lens.get_mut)(target) = Some(rereads.reread(value, room)?);
            }
            Some(())
        });
        let schema = Box::new(move |defs: &mut Defs| describes.schema(defs));
        self.0.push(Field { name, about, required: false, read, write, reread, schema });
        self
    }

    /// The fields of a part, as fields of the whole.
    pub(crate) fn include<P: 'static>(mut self, part: Fields<P>, lens: Lens<T, P>) -> Fields<T> {
        let Lens { get, get_mut } = lens;
        for field in part.0 {
            let Field { name, about, required, read, write, reread, schema } = field;
            let read: Read<T> = Box::new(move |node, target, reader| read(node, get_mut(target), reader));
            let write: Write<T> = Box::new(move |value, form| write(get(value), form));
            let reread: Reread<T> =
                Box::new(move |value, target, room| reread(get(value), get_mut(target), room));
            self.0.push(Field { name, about, required, read, write, reread, schema });
        }
        self
    }
}

pub(crate) struct Record<T> {
    /// Of its schema; unique.
    name: &'static str,
    about: &'static str,
    /// What a manifest means that says nothing.
    base: T,
    fields: Fields<T>,
    /// Fields of which there has to be one and only one.
    one_of: &'static [&'static str],
}

impl<T: Clone + 'static> Record<T> {
    pub(crate) fn new(name: &'static str, about: &'static str, base: T, fields: Fields<T>) -> Record<T> {
        Record { name, about, base, fields, one_of: &[] }
    }

    pub(crate) fn exactly_one_of(self, one_of: &'static [&'static str]) -> Record<T> {
        Record { one_of, ..self }
    }

    fn check_missing(&self, entries: &[(String, Node)], node: &Node, reader: &mut Reader) {
        let has = |name: &str| entries.iter().any(|(key, _)| key == name);
        for field in self.fields.0.iter().filter(|field| field.required && !has(field.name)) {
            reader.inside(field.name, |reader| {
                let help = format!(
                    "add `{}: ...`: {}",
                    field.name,
                    uncapitalised(field.about.trim_end_matches('.'))
                );
                reader.fault(node.key_place(), format!("`{}` is missing", reader.path()), Some(help));
            });
        }
    }

    /// Whether exactly one of `one_of` is there.
    fn check_one_of(&self, entries: &[(String, Node)], node: &Node, reader: &mut Reader) -> bool {
        let mut found = entries.iter().filter(|(key, _)| self.one_of.contains(&key.as_str()));
        let names = self.one_of.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        match (found.next(), found.next()) {
            _ if self.one_of.is_empty() => true,
            (Some(_), None) => true,
            (None, _) => {
                let message = format!("`{}` says none of {names}", reader.path());
                reader.fault(node.key_place(), message, Some(format!("give it one of {names}")));
                false
            }
            (Some((first, _)), Some((second, node))) => {
                let message = format!("`{}` has both `{first}` and `{second}`", reader.path());
                reader.fault(node.key_place(), message, Some(format!("keep only one of {names}")));
                false
            }
        }
    }

    fn unknown(&self, key: &str, node: &Node, reader: &mut Reader) {
        let names: Vec<&str> = self.fields.0.iter().map(|field| field.name).collect();
        let inside = reader.path().to_string();
        let place = if inside.is_empty() { "a manifest".to_owned() } else { format!("`{inside}`") };
        let help = hints::for_unknown(self.name, key, &names);
        reader.inside(key, |reader| {
            reader.fault(node.key_place(), format!("unknown field `{key}` in {place}"), Some(help));
        });
    }
}

impl<T: Clone + 'static> Shape for Record<T> {
    type Value = T;

    fn read(&self, node: &Node, reader: &mut Reader) -> Option<T> {
        let Value::Map(entries) = &node.value else {
            wrong_kind(node, "a map", hints::for_not_a_map(self.name).map(str::to_owned), reader);
            return None;
        };
        let mut value = self.base.clone();
        for (key, node) in entries {
            match self.fields.0.iter().find(|field| field.name == key) {
                Some(field) => reader.inside(field.name, |reader| (field.read)(node, &mut value, reader)),
                None => self.unknown(key, node, reader),
            }
        }
        self.check_missing(entries, node, reader);
        self.check_one_of(entries, node, reader).then_some(value)
    }

    fn write(&self, value: &T, form: Form) -> Json {
        let mut map = Map::new();
        for field in &self.fields.0 {
            let Some(written) = (field.write)(value, form) else { continue };
            let is_default = !field.required && (field.write)(&self.base, form).as_ref() == Some(&written);
            let left_out = match form {
                Form::Short => is_default,
                Form::Full => is_default && is_empty(&written),
            };
            if !left_out {
                map.insert(field.name.to_owned(), written);
            }
        }
        Json::Object(map)
    }

    /// What no field says of the value is what the base has.
    fn reread(&self, value: &T, room: &mut Room) -> Option<T> {
        room.take(0)?;
        let mut reread = self.base.clone();
        for field in &self.fields.0 {
            (field.reread)(value, &mut reread, room)?;
        }
        let alternatives = self.fields.0.iter().filter(|field| self.one_of.contains(&field.name));
        let written = alternatives.filter(|field| (field.write)(value, Form::Full).is_some()).count();
        (self.one_of.is_empty() || written == 1).then_some(reread)
    }

    /// A reference to the record's own schema, which is put among the named ones.
    fn schema(&self, defs: &mut Defs) -> Json {
        let reference = json!({ "$ref": format!("#/$defs/{}", self.name) });
        if defs.0.contains_key(self.name) {
            return reference;
        }
        defs.0.insert(self.name.to_owned(), Json::Null);
        let mut properties = Map::new();
        for field in &self.fields.0 {
            let mut schema = (field.schema)(defs);
            schema["description"] = json!(field.about);
            let default = (field.write)(&self.base, Form::Full).filter(|default| !is_empty(default));
            if let (false, Some(default)) = (field.required, default) {
                schema["default"] = default;
            }
            properties.insert(field.name.to_owned(), schema);
        }
        let mut schema = json!({ "type": "object", "description": self.about, "properties": properties });
        let required: Vec<&str> = self.fields.0.iter().filter(|f| f.required).map(|f| f.name).collect();
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        if !self.one_of.is_empty() {
            schema["oneOf"] = self.one_of.iter().map(|name| json!({ "required": [name] })).collect();
        }
        schema["additionalProperties"] = json!(false);
        defs.0.insert(self.name.to_owned(), schema);
        reference
    }
}

fn is_empty(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Array(items) => items.is_empty(),
        Json::Object(entries) => entries.is_empty(),
        Json::Bool(_) | Json::Number(_) | Json::String(_) => false,
    }
}

fn uncapitalised(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_lowercase().to_string()).unwrap_or_default();
    first + chars.as_str()
}
