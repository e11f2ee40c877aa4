//! Everything that is wrong with some manifests, and how it is shown to people.
//!
//! An error says what is wrong, where (with the line itself and a caret below it) and what to write instead.
//! [`Errors`] owns the lines that it shows, so that it outlives the text it came from.

use std::fmt;

/// All that is wrong, in the order in which it stands in the text. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Errors {
    problems: Vec<Problem>,
    /// How many more there are than are worth showing.
    left_out: usize,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub message: String,
    /// None where the whole input is meant, as with a file that holds no document.
    pub at: Option<Place>,
    /// Another place that has to do with it, and what is there.
    pub related: Option<(Place, String)>,
    /// What to do about it.
    pub help: Option<String>,
    pub source_name: String,
}

/// Some characters of one line of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub source_name: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// In characters, at least 1.
    pub length: usize,
    /// The whole line.
    pub text: String,
}

/// What is written before and after each part of a rendered error: nothing, or escape sequences for colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    pub error: &'static str,
    pub strong: &'static str,
    pub frame: &'static str,
    pub help: &'static str,
    pub reset: &'static str,
}

impl Style {
    pub const PLAIN: Style = Style { error: "", strong: "", frame: "", help: "", reset: "" };
    pub const COLOURS: Style = Style {
        error: "\x1b[1;31m",
        strong: "\x1b[1m",
        frame: "\x1b[1;34m",
        help: "\x1b[1;36m",
        reset: "\x1b[0m",
    };
}

impl Errors {
    /// More than these are counted, not shown: the first ones are enough to work on.
    pub const SHOWN: usize = 50;

    /// `problems` must not be empty; `left_out` counts those that are not among them.
    pub(crate) fn new(mut problems: Vec<Problem>, left_out: usize) -> Errors {
        assert!(!problems.is_empty(), "an error without a problem");
        let left_out = left_out + problems.len().saturating_sub(Errors::SHOWN);
        problems.truncate(Errors::SHOWN);
        Errors { problems, left_out }
    }

    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// As text for people, with a final newline.
    pub fn render(&self, style: &Style) -> String {
        let shown: Vec<String> = self.problems.iter().map(|problem| problem.render(style)).collect();
        let mut text = shown.join("\n");
        if self.left_out > 0 {
            text.push_str(&format!(
                "\n{}error{}: {} more not shown\n",
                style.error, style.reset, self.left_out
            ));
        }
        text
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(&Style::PLAIN))
    }
}

impl Problem {
    fn render(&self, style: &Style) -> String {
        let Style { error, strong, frame, help, reset } = style;
        let mut out = format!("{error}error{reset}: {strong}{}{reset}\n", self.message);
        let widest = [self.at.as_ref(), self.related.as_ref().map(|(place, _)| place)];
        let gutter =
            widest.into_iter().flatten().map(|place| place.line.to_string().len()).max().unwrap_or(1);
        match &self.at {
            Some(place) => place.render(&mut out, gutter, "^", "", style),
            None => out.push_str(&format!(" {frame}-->{reset} {}\n", self.source_name)),
        }
        if let Some((place, label)) = &self.related {
            place.render(&mut out, gutter, "-", label, style);
        }
        if let Some(text) = &self.help {
            out.push_str(&format!("{:gutter$} {frame}={reset} {help}help{reset}: {text}\n", ""));
        }
        out
    }
}

impl Place {
    /// Characters of a line that are shown at most: a caret is of no use below a line that wraps.
    const WIDTH: usize = 110;

    fn render(&self, out: &mut String, gutter: usize, mark: &str, label: &str, style: &Style) {
        let Style { error, frame, reset, .. } = style;
        let Place { source_name, line, column, .. } = self;
        let (text, column_shown, length) = self.window();
        let colour = if mark == "^" { error } else { frame };
        let marks = format!("{}{label}", mark.repeat(length) + if label.is_empty() { "" } else { " " });
        out.push_str(&format!("{:gutter$}{frame}-->{reset} {source_name}:{line}:{column}\n", ""));
        out.push_str(&format!("{:gutter$} {frame}|{reset}\n", ""));
        out.push_str(&format!("{frame}{line:>gutter$} |{reset} {text}\n"));
        out.push_str(&format!("{:gutter$} {frame}|{reset} {:column_shown$}{colour}{marks}{reset}\n", "", ""));
    }

    /// What of the line is shown, how far in the marks begin, and how many there are.
    fn window(&self) -> (String, usize, usize) {
        let line: Vec<char> = self.text.chars().map(shown).collect();
        let start = self.column.saturating_sub(1).min(line.len());
        let skipped = if start + self.length.min(40) > Place::WIDTH { start.saturating_sub(20) } else { 0 };
        let rest = &line[skipped..];
        let mut text: String = rest.iter().take(Place::WIDTH).collect();
        if rest.len() > Place::WIDTH {
            text.push('…');
        }
        let before = if skipped > 0 { "…" } else { "" };
        let indent = start - skipped + before.chars().count();
        let length = self.length.clamp(1, (Place::WIDTH + 1 - (start - skipped)).max(1));
        (format!("{before}{text}"), indent, length)
    }
}

/// One column per character: a tab would move the caret, a control character could move the cursor.
fn shown(c: char) -> char {
    match c {
        '\t' => '→',
        c if c.is_control() => '·',
        c => c,
    }
}
