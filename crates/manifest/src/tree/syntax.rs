//! What the YAML scanner objects to, in words that say what to do.
//!
//! The scanner speaks of tokens and contexts; people think of quotes, colons and indentation. The line that it stopped
//! at usually shows which of them it was.

use saphyr_parser::ScanError;

use super::{Span, lines};
use crate::reader::Fault;

pub(super) fn explain(error: &ScanError, text: &str) -> Fault {
    let line_number = error.marker().line().max(1);
    let line = lines(text).nth(line_number - 1).unwrap_or_default();
    let column = error.marker().col();
    if let Some(tab) = tab_in_indentation(line) {
        return Fault {
            message: "a tab is not allowed in the indentation".to_owned(),
            at: Span { line: line_number, column: tab, length: 1 },
            related: None,
            help: Some("indent with spaces; most editors can replace tabs with spaces".to_owned()),
        };
    }
    let (message, help) = meaning(error.info(), line, column);
    let at = Span { line: line_number, column, length: 1 };
    Fault { message: message.to_owned(), at, related: None, help: Some(help.to_owned()) }
}

fn tab_in_indentation(line: &str) -> Option<usize> {
    line.chars().take_while(|c| c.is_whitespace()).position(|c| c == '\t')
}

/// Parts of the scanner's messages, what they mean, and what to do. The first that matches counts.
const MEANINGS: [(&str, &str, &str); 17] = [
    (
        "mapping values are not allowed",
        "a second `:` in one line",
        "quote the value when the colon is part of it; if this is a new entry, check its indentation",
    ),
    ("simple key expect", "the line before this has no `:`", "write `name: value` on each line of a map"),
    ("found unexpected end of stream", "a quote that is never closed", "add the closing quote"),
    (
        "invalid indentation in quoted scalar",
        "a quote that is not closed on its line",
        "add the closing quote",
    ),
    (
        "invalid trailing content after double-quoted",
        "text after the closing quote",
        "put the whole value inside the quotes; a `\"` inside them is written `\\\"`",
    ),
    (
        "unknown escape character",
        "an unknown escape sequence in double quotes",
        "write `\\\\` for a backslash, or use single quotes",
    ),
    ("unknown anchor", "this alias has no anchor before it", "quote a text that begins with `*`"),
    (
        "anchor or alias",
        "`&` and `*` begin an anchor or alias, and no name follows",
        "quote a text that begins with `&` or `*`",
    ),
    ("unexpected character", "a value cannot begin with this character", "put the value in quotes"),
    (
        "did not find expected ',' or '}'",
        "a `{` that is not closed, or a comma missing",
        "close it with `}`, with commas between the entries",
    ),
    (
        "expected ',' or ']'",
        "a `[` that is not closed, or a comma missing",
        "close it with `]`, with commas between the items",
    ),
    (
        "invalid indentation in flow",
        "a `[` or `{` before this line is not closed",
        "close it with `]` or `}`; lines inside must be indented further than its key",
    ),
    ("illegal placement of ':'", "a `[` or `{` that is not closed", "close it before the next entry begins"),
    (
        "expected '-' indicator",
        "an entry among the items of a list",
        "begin the item with `- `, or indent the line as the list's owner is",
    ),
    (
        "block sequence entries are not allowed",
        "a list item where no list can begin",
        "put the items on lines of their own below the key, or write `[a, b]`",
    ),
    (
        "did not find expected key",
        "this line does not fit the lines above it",
        "entries of one map begin in the same column, without anything left over",
    ),
    (
        "block scalar",
        "`|` or `>` begins a block of text, and something else follows it",
        "put the text on the next lines, indented; quote a value that begins with `|` or `>`",
    ),
];

fn meaning<'a>(info: &'a str, line: &str, column: usize) -> (&'a str, &'a str) {
    if info.contains("tab") {
        return ("a tab in a place where YAML wants spaces", "replace the tab with spaces");
    }
    let starts_here = line.chars().nth(column);
    if info.contains("expected node content") && matches!(starts_here, Some(']' | '}' | ',')) {
        return ("a closing bracket or comma without its opening", "remove it, or quote the value");
    }
    match MEANINGS.iter().find(|(part, _, _)| info.contains(part)) {
        Some((_, message, help)) => (message, help),
        None => (info, "this is not valid YAML; `https://yaml.org/spec/1.2.2/` has the rules"),
    }
}
