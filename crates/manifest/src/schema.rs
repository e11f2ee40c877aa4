//! The JSON schema of a manifest (draft 2020-12), for editors and other tools.

use serde_json::{Value as Json, json};

use crate::describe;
use crate::shape::{Defs, Shape};

/// The schema of one document. It says what [`crate::parse`] accepts, but for rules that span several fields.
pub fn schema() -> Json {
    let mut defs = Defs::default();
    let root = describe::document().schema(&mut defs);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:wharf:manifest:v1",
        "title": "wharf manifest",
        "$ref": root["$ref"],
        "$defs": defs.0,
    })
}
