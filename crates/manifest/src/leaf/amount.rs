//! Amounts with units: spans of time, cpu, memory, shares of replicas.

use model::{Bytes, CountOrPercent, MilliCpu, Millis};
use serde_json::{Value as Json, json};

use super::{Leaf, Wrong, number, read_scalar};
use crate::reader::Reader;
use crate::shape::{Defs, Form, Room, Shape};
use crate::tree::{Kind, Node, Scalar};

/// A span of time: `500ms`, `10s`, `1m30s`, `2h`.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) min: Millis,
    pub(crate) max: Millis,
}

const TIME_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Shape for Span {
    type Value = Millis;

    fn read(&self, node: &Node, reader: &mut Reader) -> Option<Millis> {
        read_scalar(node, "a span of time such as `10s`, `500ms` or `1m30s`", reader, |scalar| {
            let span = span(scalar)?;
            if !(self.min..=self.max).contains(&span) {
                let says = format!("must be from {} to {}, not {}", self.min, self.max, scalar.text);
                return Err(Wrong::Says(says, None));
            }
            Ok(span)
        })
    }

    fn write(&self, value: &Millis, _form: Form) -> Json {
        json!(value.to_string())
    }

    fn reread(&self, value: &Millis, room: &mut Room) -> Option<Millis> {
        room.take(0)?;
        Some(*value).filter(|value| (self.min..=self.max).contains(value))
    }

    fn schema(&self, _defs: &mut Defs) -> Json {
        json!({
            "type": "string",
            "pattern": "^([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$",
            "minLength": 2,
            "examples": ["500ms", "10s", "1m30s", "2h"],
        })
    }
}

fn span(scalar: &Scalar) -> Result<Millis, Wrong> {
    let text = scalar.text.as_str();
    match scalar.kind() {
        Kind::Int => {
            return Err(Wrong::Fix(format!("write the unit: `{text}s` for seconds, or `ms`, `m`, `h`")));
        }
        Kind::Float => return Err(Wrong::Fix("write a whole number with its unit: `1500ms`".to_owned())),
        Kind::Null | Kind::Bool(_) | Kind::Text => {}
    }
    let mut rest = text;
    let mut total: u64 = 0;
    let mut units = TIME_UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (amount, after) = rest.split_at(digits);
        let unit_len = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, after) = after.split_at(unit_len);
        // `units` only moves on, so each unit comes at most once and the larger ones come first.
        let factor = units.find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
        let part =
            amount.parse::<u64>().ok().zip(factor).and_then(|(amount, factor)| amount.checked_mul(factor));
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(|| span_fix(text))?;
        rest = after;
    }
    if text.is_empty() { Err(Wrong::Value) } else { Ok(Millis(total)) }
}

fn span_fix(text: &str) -> Wrong {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok());
    match days.and_then(|days| days.checked_mul(24)) {
        Some(hours) => Wrong::Fix(format!("the largest unit is the hour: `{hours}h`")),
        None if text.contains('.') => {
            Wrong::Fix("use whole numbers and a smaller unit: `1500ms` or `1m30s`".to_owned())
        }
        None => Wrong::Fix("the units are h, m, s and ms, in this order and without spaces".to_owned()),
    }
}

pub(crate) const CPU: Leaf<MilliCpu> = Leaf {
    what: "an amount of cpu: cores (`2`, `0.5`) or thousandths of one (`250m`)",
    read: |scalar| {
        let milli = match (scalar.text.strip_suffix('m'), scalar.kind()) {
            (Some(milli), Kind::Text) => milli.parse::<u64>().map_err(|_| Wrong::Value)?,
            (_, Kind::Int | Kind::Float) => thousandths(&scalar.text).ok_or(Wrong::Fix(
                "the smallest step is a thousandth of a core: `0.001`, or `1m`".to_owned(),
            ))?,
            // A quoted number means the same.
            (None, Kind::Text) => thousandths(&scalar.text).ok_or(Wrong::Value)?,
            (_, Kind::Null | Kind::Bool(_)) => return Err(Wrong::Value),
        };
        match milli {
            1..=MAX_MILLI_CPU => Ok(MilliCpu(milli)),
            0 => Err(Wrong::Says("cannot be 0".to_owned(), Some("leave it out for no limit".to_owned()))),
            _ => Err(Wrong::Says("must be at most 1024 cores".to_owned(), None)),
        }
    },
    write: |cpu| if cpu.0.is_multiple_of(1_000) { json!(cpu.0 / 1_000) } else { json!(cpu.to_string()) },
    schema: || {
        json!({
            "anyOf": [
                { "type": "number", "exclusiveMinimum": 0, "maximum": 1024 },
                { "type": "string", "pattern": r"^([0-9]+m|[0-9]+(\.[0-9]{1,3})?)$" },
            ],
            "examples": [0.5, 2, "250m"],
        })
    },
};

const MAX_MILLI_CPU: u64 = 1_024_000;

/// A decimal number with at most three places, times a thousand.
fn thousandths(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let fraction = fraction.trim_end_matches('0');
    if !digits(whole) || !digits(fraction) || fraction.len() > 3 || (whole.is_empty() && fraction.is_empty())
    {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let padded = format!("{fraction:0<3}");
    whole.checked_mul(1_000)?.checked_add(padded.parse().ok()?)
}

/// An amount of memory: `64Mi`, `1Gi`, or a number of bytes.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) min: Bytes,
    pub(crate) max: Bytes,
}

const MEMORY_UNITS: [(&str, u32); 4] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40)];

impl Shape for Memory {
    type Value = Bytes;

    fn read(&self, node: &Node, reader: &mut Reader) -> Option<Bytes> {
        read_scalar(
            node,
            "an amount of memory such as `64Mi`, `1Gi` or a number of bytes",
            reader,
            |scalar| {
                let bytes = bytes(scalar)?;
                if !(self.min..=self.max).contains(&bytes) {
                    let says = format!("must be from {} to {}, not {}", self.min, self.max, scalar.text);
                    let forgot =
                        (scalar.kind() == Kind::Int).then(|| format!("did you mean `{}Mi`?", scalar.text));
                    return Err(Wrong::Says(says, forgot));
                }
                Ok(bytes)
            },
        )
    }

    fn write(&self, value: &Bytes, _form: Form) -> Json {
        let text = value.to_string();
        if text.bytes().all(|b| b.is_ascii_digit()) { json!(value.0) } else { json!(text) }
    }

    fn reread(&self, value: &Bytes, room: &mut Room) -> Option<Bytes> {
        room.take(0)?;
        Some(*value).filter(|value| (self.min..=self.max).contains(value))
    }

    fn schema(&self, _defs: &mut Defs) -> Json {
        json!({
            "anyOf": [
                { "type": "integer", "minimum": self.min.0, "maximum": self.max.0 },
                { "type": "string", "pattern": "^[0-9]+(Ki|Mi|Gi|Ti)$" },
            ],
            "examples": ["64Mi", "1Gi", 67_108_864],
        })
    }
}

fn bytes(scalar: &Scalar) -> Result<Bytes, Wrong> {
    let text = scalar.text.as_str();
    if scalar.kind() == Kind::Int {
        return number(text).map(Bytes).ok_or(Wrong::Value);
    }
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (amount, unit) = text.split_at(digits);
    let known = MEMORY_UNITS.iter().find(|(name, _)| *name == unit);
    match (known, amount.parse::<u64>()) {
        (Some((_, shift)), Ok(amount)) => amount.checked_mul(1 << shift).map(Bytes).ok_or(Wrong::Value),
        (_, Ok(amount)) => Err(memory_fix(amount, unit)),
        (_, Err(_)) => Err(Wrong::Value),
    }
}

fn memory_fix(amount: u64, unit: &str) -> Wrong {
    let first = unit.trim_start().chars().next().map(|c| c.to_ascii_uppercase());
    let meant = MEMORY_UNITS.iter().find(|(name, _)| first.is_some_and(|c| name.starts_with(c)));
    match (unit, meant) {
        ("", _) => Wrong::Fix(format!("remove the quotes for bytes, or write the unit: `{amount}Mi`")),
        (_, Some((name, _))) => Wrong::Fix(format!("the units are Ki, Mi, Gi and Ti: `{amount}{name}`")),
        (_, None) => Wrong::Fix("the units are Ki, Mi, Gi and Ti".to_owned()),
    }
}

/// A number of replicas, or a share of those that the service wants.
pub(crate) const COUNT_OR_PERCENT: Leaf<CountOrPercent> = Leaf {
    what: "a number of replicas from 0 to 10000 or a percentage from \"0%\" to \"100%\"",
    read: |scalar| match (scalar.kind(), scalar.text.strip_suffix('%')) {
        (Kind::Int, _) => {
            let count = number(&scalar.text).and_then(|count| u32::try_from(count).ok());
            count.filter(|count| *count <= 10_000).map(CountOrPercent::Count).ok_or(Wrong::Value)
        }
        (Kind::Text, Some(percent)) => {
            let digits = !percent.is_empty() && percent.bytes().all(|b| b.is_ascii_digit());
            let percent = digits.then(|| percent.parse::<u8>().ok()).flatten();
            percent.filter(|percent| *percent <= 100).map(CountOrPercent::Percent).ok_or(Wrong::Value)
        }
        (Kind::Text, None) if number(&scalar.text).is_some() => Err(Wrong::Fix(format!(
            "remove the quotes for a count, or write a percentage: \"{}%\"",
            scalar.text
        ))),
        _ => Err(Wrong::Value),
    },
    write: |value| match value {
        CountOrPercent::Count(count) => json!(count),
        CountOrPercent::Percent(percent) => json!(format!("{percent}%")),
    },
    schema: || {
        json!({
            "anyOf": [
                { "type": "integer", "minimum": 0, "maximum": 10_000 },
                { "type": "string", "pattern": "^0*([0-9]|[1-9][0-9]|100)%$" },
            ],
            "examples": [1, "25%"],
        })
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Scalar {
        Scalar { text: text.to_owned(), plain: true }
    }

    #[test]
    fn spans_add_up_their_units_from_large_to_small() {
        let ms = |text| span(&plain(text)).map(|span| span.0).ok();
        assert_eq!(ms("500ms"), Some(500));
        assert_eq!(ms("1m30s"), Some(90_000));
        assert_eq!(ms("2h"), Some(7_200_000));
        assert_eq!(ms("1h1m1s1ms"), Some(3_661_001));
        assert_eq!(ms("0s"), Some(0));
        for bad in [
            "",
            "s",
            "10",
            "1.5s",
            "30s1m",
            "1s1s",
            "10 s",
            "5d",
            "10S",
            "-1s",
            "99999999999999999999s",
            "1s ",
        ] {
            assert_eq!(ms(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn cpu_is_cores_or_thousandths() {
        let milli = |text| (CPU.read)(&plain(text)).map(|cpu| cpu.0).ok();
        assert_eq!(milli("2"), Some(2_000));
        assert_eq!(milli("0.5"), Some(500));
        assert_eq!(milli(".25"), Some(250));
        assert_eq!(milli("1.250"), Some(1_250));
        assert_eq!(milli("250m"), Some(250));
        for bad in ["0", "0.0001", "-1", "1e3", "2000", "m", "0.5m", "true", ".inf", "0x10"] {
            assert_eq!(milli(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn memory_has_binary_units_only() {
        let amount = |text| bytes(&plain(text)).map(|bytes| bytes.0).ok();
        assert_eq!(amount("64Mi"), Some(64 << 20));
        assert_eq!(amount("1Ki"), Some(1 << 10));
        assert_eq!(amount("67108864"), Some(64 << 20));
        for bad in ["64M", "64MB", "64mb", "1.5Gi", "64 Mi", "Mi", "-1", "99999999999Ti", "64Mi "] {
            assert_eq!(amount(bad), None, "{bad:?}");
        }
    }
}
