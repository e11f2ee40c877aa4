//! JSON values as YAML that people like to read.
//!
//! Maps and lists of maps in block style, short lists of plain words in one line, texts of several lines as blocks, and
//! quotes only where a text would be taken for something else, by YAML 1.2 or by the older readers that it meets.

use std::fmt::Write as _;

use serde_json::Value as Json;

/// The value as a YAML document, with a final newline.
pub fn yaml(value: &Json) -> String {
    let mut out = String::new();
    write_node(&mut out, value, 0);
    out
}

/// Writes a value that begins on a line of its own.
fn write_node(out: &mut String, value: &Json, indent: usize) {
    match value {
        Json::Object(entries) if !entries.is_empty() => {
            for (key, value) in entries {
                let _ = write!(out, "{:indent$}{}:", "", scalar(key));
                write_value(out, value, indent);
            }
        }
        Json::Array(items) if !items.is_empty() => {
            for item in items {
                write_item(out, item, indent);
            }
        }
        other => {
            let _ = writeln!(out, "{:indent$}{}", "", inline(other));
        }
    }
}

/// Writes a value after its key: on the same line where it fits there.
fn write_value(out: &mut String, value: &Json, indent: usize) {
    match value {
        Json::Object(entries) if !entries.is_empty() => {
            out.push('\n');
            write_node(out, value, indent + 2);
        }
        Json::Array(items) if !items.is_empty() && !fits_in_line(items) => {
            out.push('\n');
            write_node(out, value, indent + 2);
        }
        Json::String(text) if is_block(text) => write_block(out, text, indent + 2),
        other => {
            let _ = writeln!(out, " {}", inline(other));
        }
    }
}

/// Writes an item of a list, the first entry of a map beside its dash.
fn write_item(out: &mut String, item: &Json, indent: usize) {
    match item {
        Json::Object(entries) if !entries.is_empty() => {
            let start = out.len();
            write_node(out, item, indent + 2);
            out.replace_range(start + indent..start + indent + 1, "-");
        }
        Json::String(text) if is_block(text) => {
            let _ = write!(out, "{:indent$}-", "");
            write_block(out, text, indent + 2);
        }
        other => {
            let _ = writeln!(out, "{:indent$}- {}", "", inline(other));
        }
    }
}

/// A text of several lines that a block can hold as it is: nothing in it but printable characters, no line that
/// begins or ends with a space, and at most one newline at the end.
fn is_block(text: &str) -> bool {
    let body = text.strip_suffix('\n').unwrap_or(text);
    let printable = |line: &str| {
        line.chars().all(|c| !c.is_control() && !matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}' | '\u{85}'))
    };
    let plain = |line: &str| printable(line) && !line.ends_with(' ');
    body.contains('\n')
        && !body.ends_with('\n')
        && !body.starts_with([' ', '\n'])
        && body.split('\n').all(plain)
}

fn write_block(out: &mut String, text: &str, indent: usize) {
    let (header, body) = match text.strip_suffix('\n') {
        Some(body) => ("|", body),
        None => ("|-", text),
    };
    let _ = writeln!(out, " {header}");
    for line in body.split('\n') {
        let indent = if line.is_empty() { 0 } else { indent };
        let _ = writeln!(out, "{:indent$}{line}", "");
    }
}

fn fits_in_line(items: &[Json]) -> bool {
    let is_word = |item: &Json| !item.is_array() && !item.is_object();
    items.iter().all(is_word) && inline_list(items).len() <= 80
}

fn inline(value: &Json) -> String {
    match value {
        Json::String(text) => scalar(text),
        Json::Array(items) => inline_list(items),
        Json::Object(entries) => {
            let entries: Vec<_> =
                entries.iter().map(|(k, v)| format!("{}: {}", scalar(k), inline(v))).collect();
            if entries.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", entries.join(", ")) }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => value.to_string(),
    }
}

fn inline_list(items: &[Json]) -> String {
    format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", "))
}

/// A text without quotes where every reader takes it for that same text, and in double quotes otherwise.
pub(crate) fn scalar(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { quoted(text) }
}

fn is_plain(text: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '_');
    let inside = |c: char| {
        c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '.' | '-' | ':' | '@' | '=' | '+' | '%')
    };
    let number_and_unit = || {
        let digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
        digits.len() < text.len()
            && matches!(digits, "ms" | "s" | "m" | "h" | "Ki" | "Mi" | "Gi" | "Ti" | "%")
    };
    let option = text.strip_prefix("--").or_else(|| text.strip_prefix('-')).unwrap_or(text);
    let is_word = option.starts_with(first) && text.chars().all(inside) && !text.ends_with(':');
    // What YAML 1.1 takes for a boolean or null.
    let lower = text.to_ascii_lowercase();
    let special = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"].contains(&lower.as_str());
    (is_word || number_and_unit()) && !special && text.len() <= 200
}

/// In double quotes, with the escapes of YAML 1.2, section 5.7.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if (c.is_control()
                || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}')) =>
            {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
