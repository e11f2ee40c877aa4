//! Small texts: ages, times of day, JSON and YAML.

use std::time::{SystemTime, UNIX_EPOCH};

use model::{Timestamp, waiting::roughly};

use crate::exit::Failure;

/// How long ago, by the clock of who said so.
pub fn age(now_unix_ms: u64, then_unix_ms: u64) -> String {
    roughly(Timestamp(now_unix_ms).since(Timestamp(then_unix_ms)))
}

pub fn now_unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// In the zone of this machine, to the millisecond.
pub fn time_of(unix_ms: u64) -> String {
    match jiff::Timestamp::from_millisecond(unix_ms as i64) {
        Ok(time) => time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        Err(_) => format!("{unix_ms}ms"),
    }
}

pub fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    let text =
        serde_json::to_string_pretty(value).map_err(|e| Failure::new("this cannot be shown").caused_by(e))?;
    anstream::println!("{text}");
    Ok(())
}

pub fn print_yaml(value: &serde_json::Value) {
    anstream::print!("{}", manifest::yaml(value));
}

/// The name among `known` that was probably meant.
pub fn nearest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|name| (strsim::jaro_winkler(wanted, name), name));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 > 0.75).then_some(best.1)
}
