//! Bytes as lower-case hex digits: pins, secrets and key files, as `sha256sum` and `openssl` write them.

/// Two digits per byte, appended. Reserves what it needs first, so that a secret leaves no copy behind in an outgrown
/// buffer.
pub(crate) fn write(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(bytes.len() * 2);
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// Exactly `N` bytes; `None` for any other length, and for upper case.
pub(crate) fn read<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair_value(pair)?;
    }
    Some(bytes)
}

/// However many bytes there are. Not for secrets: it collects.
pub(crate) fn read_all(text: &str) -> Option<Vec<u8>> {
    text.as_bytes().chunks(2).map(pair_value).collect()
}

/// However long the text is that these are the bytes of; none has no bytes.
pub(crate) fn read_text(text: &str) -> Option<String> {
    String::from_utf8(read_all(text)?).ok().filter(|text| !text.is_empty())
}

fn pair_value(pair: &[u8]) -> Option<u8> {
    let &[high, low] = pair else { return None };
    Some(digit(high)? << 4 | digit(low)?)
}

fn digit(letter: u8) -> Option<u8> {
    match letter {
        b'0'..=b'9' => Some(letter - b'0'),
        b'a'..=b'f' => Some(letter - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_written_is_read() {
        let mut text = String::new();
        write(&[0, 0x7f, 0xff], &mut text);
        assert_eq!(text, "007fff");
        assert_eq!(read(&text), Some([0, 0x7f, 0xff]));
        for bad in ["", "007f", "007FFF", "007ff", "007fffff", "00 fff"] {
            assert_eq!(read::<3>(bad), None, "{bad:?}");
        }
        assert_eq!(read_all(&text), Some(vec![0, 0x7f, 0xff]));
        for bad in ["0", "007", "0g", "00FF"] {
            assert_eq!(read_all(bad), None, "{bad:?}");
        }
    }
}
