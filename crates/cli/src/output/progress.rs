//! Long work, as it happens: a line per service that changes in place on a terminal, and plain lines in a pipe.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use model::{Millis, waiting::roughly};
use owo_colors::OwoColorize;

use super::{live::Live, say};

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

/// One frame of the sign that something goes on.
const FRAMES: [char; 6] = ['⠋', '⠙', '⠸', '⠴', '⠦', '⠇'];

/// Shows the state of several things by name. Dropped, it gives the terminal back.
pub struct Progress {
    live: Option<Live>,
    /// What is open, by name.
    open: BTreeMap<String, Step>,
    news: BTreeMap<String, News>,
    began: Instant,
    frame: usize,
}

impl Progress {
    /// How often [`Progress::tick`] is to be called.
    pub const TICK: Duration = Duration::from_millis(120);

    pub fn new() -> Progress {
        Progress {
            live: Live::on_terminal(),
            open: BTreeMap::new(),
            news: BTreeMap::new(),
            began: Instant::now(),
            frame: 0,
        }
    }

    /// Says how far one of them is; in a pipe only when that is news.
    pub fn show(&mut self, name: &str, step: &Step) {
        self.open.insert(name.to_owned(), step.clone());
        if self.live.is_some() {
            self.draw();
        } else if self.news.entry(name.to_owned()).or_default().is_news(step, Instant::now()) {
            say(format_args!("{name}: {}", step.text()));
        }
    }

    /// Time passes.
    pub fn tick(&mut self) {
        self.frame += 1;
        self.draw();
    }

    /// Whether it was shown and has not ended.
    pub fn is_open(&self, name: &str) -> bool {
        self.open.contains_key(name)
    }

    /// Since it was made.
    pub fn took(&self) -> String {
        roughly(Millis(self.began.elapsed().as_millis() as u64))
    }

    /// Says how one of them ended; that line stays.
    pub fn end(&mut self, name: &str, good: bool, text: &str) {
        self.open.remove(name);
        if let Some(live) = &mut self.live {
            live.clear();
        }
        let mark = if good { "✓".green().to_string() } else { "✗".red().to_string() };
        say(format_args!("{mark} {name} {text}"));
        self.draw();
    }

    fn draw(&mut self) {
        let Some(live) = &mut self.live else { return };
        let frame = FRAMES[self.frame % FRAMES.len()];
        let seconds = self.began.elapsed().as_secs();
        let line = |(name, step): (&String, &Step)| format!("{frame} {seconds:>2}s {name}: {}", step.text());
        live.show(&self.open.iter().map(line).collect::<Vec<_>>());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(live) = &mut self.live {
            live.clear();
        }
    }
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
