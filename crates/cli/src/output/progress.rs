//! Long work, as it happens: a line per service that changes in place on a terminal, and plain lines in a pipe.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use owo_colors::OwoColorize;

use super::say;

/// So often a pipe is told that the work goes on, though nothing changed: CI systems end what is silent for long.
const SIGN_OF_LIFE: Duration = Duration::from_secs(60);

/// How far one thing is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Any change of this is news.
    pub headline: String,
    /// In this, another number is none.
    pub detail: Option<String>,
}

impl Step {
    fn text(&self) -> String {
        match &self.detail {
            Some(detail) => format!("{}; {detail}", self.headline),
            None => self.headline.clone(),
        }
    }
}

/// Shows the state of several things by name. Dropped, it gives the terminal back.
pub struct Progress {
    lines: Option<MultiProgress>,
    bars: BTreeMap<String, ProgressBar>,
    news: BTreeMap<String, News>,
}

impl Progress {
    pub fn new() -> Progress {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let is_terminal = std::io::stderr().is_terminal() && std::io::stdout().is_terminal();
        let lines = (is_terminal && !is_dumb).then(MultiProgress::new);
        Progress { lines, bars: BTreeMap::new(), news: BTreeMap::new() }
    }

    /// Says how far one of them is; in a pipe only when that is news.
    pub fn show(&mut self, name: &str, step: &Step) {
        let Some(lines) = &self.lines else {
            if self.news.entry(name.to_owned()).or_default().is_news(step, Instant::now()) {
                say(format_args!("{name}: {}", step.text()));
            }
            return;
        };
        let bar = self.bars.entry(name.to_owned()).or_insert_with(|| new_bar(lines));
        bar.set_message(format!("{name}: {}", step.text()));
    }

    /// Says how one of them ended; that line stays.
    pub fn end(&mut self, name: &str, good: bool, text: &str) {
        if let Some(bar) = self.bars.remove(name) {
            bar.finish_and_clear();
        }
        let mark = if good { "✓".green().to_string() } else { "✗".red().to_string() };
        let line = format!("{mark} {name} {text}");
        match &self.lines {
            Some(lines) => lines.suspend(|| say(line)),
            None => say(line),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        for bar in std::mem::take(&mut self.bars).into_values() {
            bar.finish_and_clear();
        }
    }
}

/// As wide as the terminal and no wider: a line that wraps could not be taken back.
fn new_bar(lines: &MultiProgress) -> ProgressBar {
    let bar = lines.add(ProgressBar::new_spinner());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>3} {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// What a pipe was told of one thing.
#[derive(Default)]
struct News {
    headline: String,
    /// The details told under that headline, without their numbers.
    told: BTreeSet<String>,
    last: Option<Instant>,
}

impl News {
    fn is_news(&mut self, step: &Step, now: Instant) -> bool {
        if step.headline != self.headline {
            self.headline.clone_from(&step.headline);
            self.told.clear();
        }
        let without_numbers =
            step.detail.as_deref().unwrap_or_default().replace(|c: char| c.is_ascii_digit(), "");
        let is_new = self.told.insert(without_numbers);
        let was_silent = self.last.is_some_and(|last| now.duration_since(last) >= SIGN_OF_LIFE);
        if is_new || was_silent {
            self.last = Some(now);
        }
        is_new || was_silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_told_what_is_new_and_now_and_then_that_it_goes_on() {
        let step = |headline: &str, detail: &str| Step {
            headline: headline.to_owned(),
            detail: Some(detail.to_owned()),
        };
        let start = Instant::now();
        let mut news = News::default();
        let mut check = |headline, detail, after_secs, expected| {
            let is_news = news.is_news(&step(headline, detail), start + Duration::from_secs(after_secs));
            assert_eq!(is_news, expected, "{headline} {detail} after {after_secs}s");
        };
        check("1/3 ready", "slot 1 starts", 0, true);
        check("1/3 ready", "slot 1 starts", 1, false);
        check("1/3 ready", "slot 2 starts", 2, false);
        check("1/3 ready", "slot 2 fails: status 500", 3, true);
        check("1/3 ready", "slot 2 starts", 4, false);
        check("2/3 ready", "slot 2 starts", 5, true);
        check("2/3 ready", "slot 2 starts", 64, false);
        check("2/3 ready", "slot 2 starts", 65, true);
        check("2/3 ready", "slot 2 starts", 66, false);
    }
}
