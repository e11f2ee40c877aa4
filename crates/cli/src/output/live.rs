//! A block of lines on a terminal that is written over itself.
//!
//! A line that wrapped, or that has scrolled away, could not be written over: so lines are cut to the width of the
//! terminal, and what is more than its height is left out.

use std::io::{IsTerminal, Write};

use rustix::termios::tcgetwinsize;
use unicode_width::UnicodeWidthChar;

/// The lines on the screen now. Dropped, it leaves them there; [`Live::clear`] takes them away.
#[derive(Debug, Default)]
pub struct Live {
    height: usize,
}

impl Live {
    /// None where nothing can be written over: in a pipe, on a dumb terminal.
    pub fn on_terminal() -> Option<Live> {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        (std::io::stdout().is_terminal() && !is_dumb).then(Live::default)
    }

    /// Puts these lines in the place of those before.
    pub fn show(&mut self, lines: &[String]) {
        let size = tcgetwinsize(std::io::stdout()).ok().filter(|size| size.ws_row > 0 && size.ws_col > 0);
        let (rows, columns) =
            size.map_or((24, 80), |size| (usize::from(size.ws_row), usize::from(size.ws_col)));
        let lines = fitting(lines, rows, columns);
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.write(&text);
        self.height = lines.len();
    }

    pub fn clear(&mut self) {
        self.write("");
        self.height = 0;
    }

    /// That nobody looks any more is for others to notice.
    fn write(&self, text: &str) {
        let back = match self.height {
            0 => String::new(),
            height => format!("\x1b[{height}A\r\x1b[J"),
        };
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(format!("{back}{text}").as_bytes()).and_then(|()| out.flush());
    }
}

/// One row is left for the cursor below the lines.
fn fitting(lines: &[String], rows: usize, columns: usize) -> Vec<String> {
    let shown = rows.saturating_sub(1).max(1);
    if lines.len() <= shown {
        return lines.iter().map(|line| cut(line, columns)).collect();
    }
    let mut kept: Vec<String> =
        lines.iter().take(shown.saturating_sub(1)).map(|line| cut(line, columns)).collect();
    kept.push(cut(&format!("... and {} more lines", lines.len() - kept.len()), columns));
    kept
}

/// As much of a line as takes no more than `columns`; wide characters take two.
fn cut(line: &str, columns: usize) -> String {
    let mut left = columns;
    let fits = |c: &char| {
        let width = c.width().unwrap_or(0);
        let fits = width <= left;
        left = left.saturating_sub(width);
        fits
    };
    line.chars().take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_to_the_width_that_they_take() {
        assert_eq!(cut("hello", 10), "hello");
        assert_eq!(cut("hello", 4), "hell");
        assert_eq!(cut("日本語", 5), "日本");
        assert_eq!(cut("日a", 2), "日");
        assert_eq!(cut("hello", 0), "");
    }

    #[test]
    fn what_does_not_fit_the_height_is_counted() {
        let lines: Vec<String> = (1..=5).map(|n| n.to_string()).collect();
        assert_eq!(fitting(&lines, 6, 80), lines);
        assert_eq!(fitting(&lines, 5, 80), ["1", "2", "3", "... and 2 more lines"]);
        assert_eq!(fitting(&lines, 1, 80), ["... and 5 more lines"]);
    }
}
