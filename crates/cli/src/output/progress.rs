//! Long work, as it happens: a line per service that changes in place on a terminal, and plain lines in a pipe.

use std::{collections::BTreeMap, io::IsTerminal, time::Duration};

use anstream::println;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use owo_colors::OwoColorize;

/// Shows the state of several things by name.
pub struct Progress {
    lines: Option<MultiProgress>,
    bars: BTreeMap<String, ProgressBar>,
    shown: BTreeMap<String, String>,
}

impl Progress {
    pub fn new() -> Progress {
        let lines = std::io::stderr().is_terminal().then(MultiProgress::new);
        Progress { lines, bars: BTreeMap::new(), shown: BTreeMap::new() }
    }

    /// Says how far one of them is; in a pipe only when that is news.
    pub fn show(&mut self, name: &str, text: &str) {
        if self.shown.get(name).is_some_and(|last| last == text) {
            return;
        }
        self.shown.insert(name.to_owned(), text.to_owned());
        let Some(lines) = &self.lines else {
            println!("{name}: {text}");
            return;
        };
        let bar = self.bars.entry(name.to_owned()).or_insert_with(|| {
            let bar = lines.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        bar.set_message(format!("{name}: {text}"));
    }

    /// Says how one of them ended; that line stays.
    pub fn end(&mut self, name: &str, good: bool, text: &str) {
        if let Some(bar) = self.bars.remove(name) {
            bar.finish_and_clear();
        }
        let line = if good {
            format!("{} {name} {text}", "✓".green())
        } else {
            format!("{} {name} {text}", "✗".red())
        };
        match &self.lines {
            Some(lines) => lines.suspend(|| println!("{line}")),
            None => println!("{line}"),
        }
    }

    pub fn finish(&mut self) {
        for bar in std::mem::take(&mut self.bars).into_values() {
            bar.finish_and_clear();
        }
    }
}
