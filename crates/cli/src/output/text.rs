//! JSON, YAML, counts, and the name that was probably meant.

use serde_json::Value as Json;

use crate::{args::Output, exit::Failure, output::print};

/// How `-o` asks for data to be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Yaml,
}

impl Format {
    /// None where a table or names are wanted.
    pub fn of(output: Output) -> Option<Format> {
        match output {
            Output::Json => Some(Format::Json),
            Output::Yaml => Some(Format::Yaml),
            Output::Table | Output::Wide | Output::Name => None,
        }
    }

    pub fn print(self, value: &Json) -> Result<(), Failure> {
        print(&self.render(value)?)
    }

    pub fn render(self, value: &Json) -> Result<String, Failure> {
        match self {
            Format::Json => {
                let text = serde_json::to_string_pretty(value);
                text.map(|text| text + "\n").map_err(|e| Failure::new("this cannot be shown").caused_by(e))
            }
            Format::Yaml => Ok(manifest::yaml(value)),
        }
    }
}

/// Each on a line.
pub fn lines(items: impl IntoIterator<Item = String>) -> String {
    items.into_iter().map(|item| item + "\n").collect()
}

/// `1 replica`, `3 replicas`.
pub fn count(number: impl Into<u64>, what: &str) -> String {
    match number.into() {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    }
}

/// The name among `known` that was probably meant.
pub fn nearest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|name| (strsim::jaro_winkler(wanted, name), name));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 > 0.75).then_some(best.1)
}
