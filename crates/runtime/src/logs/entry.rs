//! One entry of a log file.

/// A line, or a piece of a very long one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Nanoseconds since 1970 when the keeper read it.
    pub unix_ns: u64,
    pub stream: Stream,
    /// False when the line goes on in the next entry of the same stream.
    pub complete: bool,
    /// As the application wrote it, without the newline; not necessarily UTF-8.
    pub text: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// An entry with its newline; `None` when it is torn or no entry.
pub(super) fn parse_whole(line: &[u8]) -> Option<LogLine> {
    let mut fields = line.strip_suffix(b"\n")?.splitn(4, |byte| *byte == b' ');
    let unix_ns = parse_time(fields.next()?)?;
    let stream = match fields.next()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let complete = match fields.next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    Some(LogLine { unix_ns, stream, complete, text: fields.next()?.to_vec() })
}

/// Exactly the form that keepers write: `2026-11-23T05:00:00.123456789Z`.
fn parse_time(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() == 30)?;
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let marks = [(4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":"), (19, "."), (29, "Z")];
    if marks.iter().any(|(at, mark)| text.get(*at..at + 1) != Some(*mark)) {
        return None;
    }
    let days = days_since_1970(number(0, 4)?, number(5, 7)?, number(8, 10)?)?;
    let seconds = number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    Some((days * 86_400 + seconds) * 1_000_000_000 + number(20, 29)?)
}

/// Counts in years that begin on 1 March, so that the leap day is the last of its year.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let march_year = if month <= 2 { year - 1 } else { year };
    let march_month = (month + 9) % 12;
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    let days = march_year * 365 + march_year / 4 - march_year / 100 + march_year / 400 + day_of_year;
    days.checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        let cases = [
            ("1970-01-01T00:00:00.000000000Z", Some(0)),
            ("2026-11-23T05:00:00.123456789Z", Some(1_795_410_000_123_456_789)),
            ("2024-02-29T23:59:59.999999999Z", Some(1_709_251_199_999_999_999)),
            ("2024-02-29 23:59:59.999999999Z", None),
            ("2024-02-29T23:59:59Z", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_time(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn entries_keep_their_blanks_and_bytes() {
        let line = b"1970-01-01T00:00:01.000000000Z stderr P  a  \xff \n";
        let expected = LogLine {
            unix_ns: 1_000_000_000,
            stream: Stream::Stderr,
            complete: false,
            text: b" a  \xff ".to_vec(),
        };
        assert_eq!(parse_whole(line), Some(expected));
        for len in 0..line.len() - 1 {
            assert_eq!(parse_whole(&line[..len]), None, "torn after {len} bytes");
        }
    }
}
