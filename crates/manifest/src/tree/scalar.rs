//! A single value and what it is by YAML 1.2's core schema (section 10.3.2): only a plain one can be anything but
//! text. `no`, `on` and `12:30` are text there, as they look.

/// A value that is neither list nor map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Written without quotes and not as a block.
    pub(crate) plain: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    Int,
    Float,
    Text,
}

impl Scalar {
    pub(crate) fn kind(&self) -> Kind {
        if !self.plain {
            return Kind::Text;
        }
        match self.text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => Kind::Null,
            "true" | "True" | "TRUE" => Kind::Bool(true),
            "false" | "False" | "FALSE" => Kind::Bool(false),
            text if is_int(text) => Kind::Int,
            text if is_float(text) => Kind::Float,
            _ => Kind::Text,
        }
    }
}

fn unsigned(text: &str) -> &str {
    text.strip_prefix(['-', '+']).unwrap_or(text)
}

fn all(text: &str, digit: fn(&char) -> bool) -> bool {
    !text.is_empty() && text.chars().all(|c| digit(&c))
}

fn is_int(text: &str) -> bool {
    let hex = text.strip_prefix("0x").is_some_and(|digits| all(digits, char::is_ascii_hexdigit));
    let octal = text.strip_prefix("0o").is_some_and(|digits| all(digits, |c| ('0'..='7').contains(c)));
    hex || octal || all(unsigned(text), char::is_ascii_digit)
}

fn is_float(text: &str) -> bool {
    let number = unsigned(text);
    if matches!(number, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(unsigned(exponent))),
        None => (number, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    let has_digits = !(whole.is_empty() && fraction.is_empty());
    digits(whole) && digits(fraction) && has_digits && exponent.is_none_or(|e| all(e, char::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_values_follow_the_core_schema_and_quoted_ones_are_text() {
        let kind = |text: &str| Scalar { text: text.to_owned(), plain: true }.kind();
        for text in
            ["no", "yes", "on", "12:30", "1_000", "0b1", "1.2.3", "64Mi", "-", ".", "1e", "e1", "0x", "NaN"]
        {
            assert_eq!(kind(text), Kind::Text, "{text}");
        }
        for text in ["0", "-7", "+7", "007", "0xfF", "0o17"] {
            assert_eq!(kind(text), Kind::Int, "{text}");
        }
        for text in ["0.5", ".5", "5.", "1e3", "-1.5E-7", ".inf", "-.INF", ".nan"] {
            assert_eq!(kind(text), Kind::Float, "{text}");
        }
        assert_eq!((kind("true"), kind("False")), (Kind::Bool(true), Kind::Bool(false)));
        assert_eq!((kind("~"), kind("null")), (Kind::Null, Kind::Null));
        assert_eq!(Scalar { text: "true".to_owned(), plain: false }.kind(), Kind::Text);
    }
}
