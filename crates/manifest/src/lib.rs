//! Manifests: text in, specs out, and back.
//!
//! One description of each type ([`describe`]) drives all that this crate does: reading with every error of a text at
//! once, writing as YAML and JSON, the JSON schema for editors, the suggestions for misspelt fields. So a field
//! cannot be read without being written, or be in the schema without being read.
//!
//! The way of a text: [`tree`] makes a tree of it that knows where each value stands; the shapes of [`describe`] read
//! the tree into model types; [`update`] fills in what depends on the rest; [`check`] looks for what no field could
//! see alone; [`errors`] shows what is wrong. Nothing here panics on any text, reads a file or knows a clock.
//!
//! Start reading at [`document::parse_all`], then [`describe::service`].

mod document;

mod describe;
mod update;

mod check;
mod hints;
mod suggest;

mod leaf;
mod shape;

mod path;
mod reader;
mod tree;

mod declared;
mod diff;
mod schema;
mod yaml;

mod errors;

pub use declared::{Declared, check, to_json, to_yaml};
pub use diff::{Change, diff, render_diff};
pub use document::{Kind, Manifest, Source, parse, parse_all};
pub use errors::{Errors, Place, Problem, Style};
pub use schema::schema;
pub use shape::Form;
pub use yaml::yaml;
