//! The JSON schema says the same as the reader.
//!
//! What follows is a checker for the part of JSON Schema (draft 2020-12) that the schema uses; a keyword that it does
//! not know fails the test, so that none is passed over.

use manifest::Form;
use proptest::prelude::*;
use regex::Regex;
use serde_json::{Value as Json, json};

use crate::generated::declaration;
use crate::golden;

thread_local! {
    /// Its patterns take long to compile.
    static CHECKER: Checker = Checker::new();
}

fn conforms(value: &Json) -> Result<(), String> {
    CHECKER.with(|checker| checker.check(value))
}

struct Checker {
    root: Json,
    patterns: std::cell::RefCell<std::collections::HashMap<String, Regex>>,
}

impl Checker {
    fn new() -> Checker {
        Checker { root: manifest::schema(), patterns: Default::default() }
    }

    fn check(&self, value: &Json) -> Result<(), String> {
        self.against(&self.root, value, "")
    }

    fn matches(&self, pattern: &str, text: &str) -> bool {
        let mut patterns = self.patterns.borrow_mut();
        patterns.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).unwrap()).is_match(text)
    }

    fn against(&self, schema: &Json, value: &Json, path: &str) -> Result<(), String> {
        for (keyword, wanted) in schema.as_object().unwrap() {
            self.keyword(schema, keyword, wanted, value, path)?;
        }
        Ok(())
    }

    fn keyword(
        &self,
        schema: &Json,
        keyword: &str,
        wanted: &Json,
        value: &Json,
        path: &str,
    ) -> Result<(), String> {
        let number = |of: &Json| of.as_f64().unwrap();
        let is_or_other = |holds: Option<bool>| holds.unwrap_or(true);
        let holds = match keyword {
            "$schema" | "$id" | "$defs" | "title" | "description" | "default" | "examples" => true,
            "$ref" => {
                let name = wanted.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                return self.against(&self.root["$defs"][name], value, path);
            }
            "type" => match wanted.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "integer" => value.is_u64() || value.is_i64(),
                "number" => value.is_number(),
                other => panic!("type {other}"),
            },
            "enum" => wanted.as_array().unwrap().contains(value),
            "minimum" => is_or_other(value.as_f64().map(|value| value >= number(wanted))),
            "maximum" => is_or_other(value.as_f64().map(|value| value <= number(wanted))),
            "exclusiveMinimum" => is_or_other(value.as_f64().map(|value| value > number(wanted))),
            "minLength" => {
                is_or_other(value.as_str().map(|text| text.chars().count() as f64 >= number(wanted)))
            }
            "maxLength" => {
                is_or_other(value.as_str().map(|text| text.chars().count() as f64 <= number(wanted)))
            }
            "pattern" => is_or_other(value.as_str().map(|text| self.matches(wanted.as_str().unwrap(), text))),
            "minItems" => is_or_other(value.as_array().map(|items| items.len() as f64 >= number(wanted))),
            "maxItems" => is_or_other(value.as_array().map(|items| items.len() as f64 <= number(wanted))),
            "uniqueItems" => is_or_other(
                value
                    .as_array()
                    .map(|items| items.iter().enumerate().all(|(i, item)| !items[..i].contains(item))),
            ),
            "not" => self.against(wanted, value, path).is_err(),
            "anyOf" => wanted.as_array().unwrap().iter().any(|one| self.against(one, value, path).is_ok()),
            "oneOf" => {
                wanted.as_array().unwrap().iter().filter(|one| self.against(one, value, path).is_ok()).count()
                    == 1
            }
            "required" => {
                wanted.as_array().unwrap().iter().all(|name| value.get(name.as_str().unwrap()).is_some())
            }
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    self.against(wanted, item, &format!("{path}[{i}]"))?;
                }
                true
            }
            "properties" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    if let Some(schema) = wanted.get(name) {
                        self.against(schema, value, &format!("{path}.{name}"))?;
                    }
                }
                true
            }
            "propertyNames" => {
                for name in value.as_object().into_iter().flatten().map(|(name, _)| name) {
                    self.against(wanted, &json!(name), &format!("{path}.{name}"))?;
                }
                true
            }
            "additionalProperties" => {
                let known =
                    |name: &str| schema.get("properties").is_some_and(|known| known.get(name).is_some());
                for (name, value) in value.as_object().into_iter().flatten().filter(|(name, _)| !known(name))
                {
                    let path = format!("{path}.{name}");
                    match wanted {
                        Json::Bool(false) => return Err(format!("{path}: not known")),
                        schema => self.against(schema, value, &path)?,
                    }
                }
                true
            }
            other => panic!("the schema uses {other}, which this checker does not know"),
        };
        if holds { Ok(()) } else { Err(format!("{path}: {value} is against {keyword} {wanted}")) }
    }
}

/// The documents of a file as JSON, read by the crate itself and then written in full.
fn documents(folder: &str) -> Vec<(String, Json)> {
    let read = |file: std::path::PathBuf| {
        let name = golden::name(&file).to_owned();
        let manifests = manifest::parse(&name, &golden::read(&file)).unwrap();
        manifests.into_iter().map(move |read| (name.clone(), manifest::to_json(&read, Form::Short)))
    };
    golden::files(folder, "yaml").into_iter().flat_map(read).collect()
}

#[test]
fn the_examples_and_good_manifests_conform() {
    for folder in ["../../manifests", "../../manifests/warehouse", "tests/good"] {
        for (name, document) in documents(folder) {
            conforms(&document).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}

#[test]
fn every_description_says_something_and_every_name_is_described() {
    let schema = manifest::schema();
    for (name, schema) in schema["$defs"].as_object().unwrap() {
        assert!(schema["description"].as_str().is_some_and(|text| text.ends_with('.')), "{name}");
        for (field, schema) in schema["properties"].as_object().unwrap() {
            assert!(schema["description"].as_str().is_some_and(|text| text.ends_with('.')), "{name}.{field}");
        }
    }
}

/// Values that a field might be given, good and bad.
fn any_value() -> impl Strategy<Value = Json> {
    let texts = [
        "",
        "a",
        "A",
        "web",
        "-",
        "a b",
        "/",
        "/a/../b",
        "/a",
        "a/../b",
        "10s",
        "10",
        "1m30s",
        "1.5s",
        "5ms",
        "64Mi",
        "64M",
        "25%",
        "101%",
        "250m",
        "0.5",
        "1.2345",
        "tcp",
        "TCP",
        "always",
        "stop-first",
        "SIGTERM",
        "term",
        "SIGRTMIN",
        "NET_RAW",
        "cap_net_raw",
        "ALL",
        "http",
        "0",
        "1000:1000",
        "root:",
        "wharf/v1",
        "Service",
        "web:1",
        "Web:1",
        "web@sha256:0",
        "0s",
        "Mi",
        "%",
        "m",
        "s",
        "00%",
        "007",
        "a:b",
        "a_b.c-d",
        "http://x/y",
        "/h\u{e9}",
    ];
    prop_oneof![
        3 => proptest::sample::select(texts.to_vec()).prop_map(|text| json!(text)),
        2 => proptest::sample::select(vec![json!(0), json!(1), json!(64), json!(65), json!(65536), json!(20_000_000), json!(-1)]),
        1 => proptest::sample::select(vec![json!(0.5), json!(1e10), json!(true), json!(false), json!([]), json!({}), json!(["a"])]),
        1 => Just(json!({ "a": "b" })),
    ]
}

/// Every place in a document where a value stands.
fn places(value: &Json, here: String, into: &mut Vec<String>) {
    match value {
        Json::Object(entries) => {
            for (key, value) in entries {
                places(value, format!("{here}/{}", key.replace('~', "~0").replace('/', "~1")), into);
            }
        }
        Json::Array(items) => {
            for (i, value) in items.iter().enumerate() {
                places(value, format!("{here}/{i}"), into);
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
    into.push(here);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_conforms(service in declaration()) {
        for form in [Form::Short, Form::Full] {
            let document = manifest::to_json(service.declared(), form);
            prop_assert_eq!(conforms(&document), Ok(()));
        }
    }

    /// With one value replaced by another, whatever the reader accepts conforms to the schema. (Not the other way
    /// round: the schema knows no sums, no bounds of amounts with units, and nothing that spans several fields.)
    #[test]
    fn what_is_accepted_conforms(service in declaration(), at in any::<usize>(), value in any_value()) {
        let mut document = manifest::to_json(service.declared(), Form::Full);
        let mut all = Vec::new();
        places(&document, String::new(), &mut all);
        let place = &all[at % all.len()];
        *document.pointer_mut(place).unwrap() = value.clone();
        if manifest::parse("replaced", &manifest::yaml(&document)).is_ok() {
            prop_assert_eq!(conforms(&document), Ok(()), "{} = {}", place, value);
        }
    }
}
