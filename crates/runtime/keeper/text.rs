//! Numbers and times as text, without an allocator.

use crate::sys::Time;

/// Text of bounded size. What does not fit is left out: every use below has room for its longest text.
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    pub fn new() -> Text<N> {
        Text { bytes: [0; N], len: 0 }
    }

    pub fn push(&mut self, more: &[u8]) -> &mut Text<N> {
        for byte in more {
            if self.len < N {
                self.bytes[self.len] = *byte;
                self.len += 1;
            }
        }
        self
    }

    pub fn number(&mut self, value: u64) -> &mut Text<N> {
        let mut digits = [0u8; 20];
        let mut start = digits.len();
        let mut rest = value;
        loop {
            start -= 1;
            digits[start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.push(&digits[start..])
    }

    /// Exactly `width` digits, zeros in front.
    fn padded(&mut self, value: u64, width: u32) -> &mut Text<N> {
        for place in (0..width).rev() {
            let digit = value / 10u64.pow(place) % 10;
            self.push(&[b'0' + digit as u8]);
        }
        self
    }

    /// RFC 3339 in UTC with nanoseconds: 30 bytes.
    pub fn time(&mut self, time: Time) -> &mut Text<N> {
        let days = time.seconds.div_euclid(86_400);
        let second = time.seconds.rem_euclid(86_400) as u64;
        let (year, month, day) = civil(days);
        self.padded(year, 4).push(b"-").padded(month, 2).push(b"-").padded(day, 2).push(b"T");
        self.padded(second / 3600, 2).push(b":").padded(second / 60 % 60, 2).push(b":").padded(second % 60, 2);
        self.push(b".").padded(time.nanos as u64, 9).push(b"Z")
    }

    /// Fills the rest with newlines, so that the text is always `N` bytes.
    pub fn fill(&mut self) -> &mut Text<N> {
        while self.len < N {
            self.push(b"\n");
        }
        self
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
///
/// Counts in eras of 400 years that begin on 1 March, so that the leap day is the last of its year.
fn civil(days: i64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year as u64, month as u64, day as u64)
}

/// A decimal number that is the whole text.
pub fn parse(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let mut value = 0u64;
    for byte in text {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
    }
    Some(value)
}

/// The number that follows `key` and a blank at the start of a line; the whole text's when `key` is empty.
pub fn value_of(text: &[u8], key: &[u8]) -> Option<u64> {
    for line in text.split(|byte| *byte == b'\n') {
        let Some(rest) = line.strip_prefix(key) else { continue };
        let rest = if key.is_empty() { rest } else { rest.strip_prefix(b" ").unwrap_or(b"") };
        if let Some(number) = parse(rest) {
            return Some(number);
        }
    }
    None
}
