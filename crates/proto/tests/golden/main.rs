//! Bytes that were once written, and that must be read for ever.
//!
//! `format-1/` holds what the first format wrote. Two things are checked of each file: it still decodes to the value it
//! was made from, and that value is still written as these bytes. When the second must end, because there is a new
//! format, the files move to a check of the first alone, and new ones stand beside them.
//!
//! A file that is missing is written when `UPDATE_GOLDEN` is set. One that is there is never overwritten: it is what
//! is on somebody's disk.

// A file that cannot be read or written, or a value that is not one, is a failure of the test.
#![allow(clippy::unwrap_used)]

mod templates;
mod values;

use std::{fmt::Debug, fs, path::PathBuf};

use proto::{DecodeError, codec};

fn check<T: PartialEq + Debug>(
    name: &str,
    value: T,
    encode: impl Fn(&T) -> Vec<u8>,
    decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
) {
    let golden = golden(name, &encode(&value));
    assert_eq!(decode(&golden).as_ref(), Ok(&value), "{name} is read as what it was written from");
    assert_eq!(to_hex(&encode(&value)), to_hex(&golden), "{name} is written as it always was");
}

/// The bytes of the file, which is written first if that was asked for.
fn golden(name: &str, now: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/format-1/{name}.hex"));
    if !path.exists() && std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, to_hex(now)).unwrap();
    }
    let hex = fs::read_to_string(&path);
    from_hex(
        &hex.unwrap_or_else(|error| panic!("{}: {error}; set UPDATE_GOLDEN to write it", path.display())),
    )
}

fn to_hex(bytes: &[u8]) -> String {
    let line = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    bytes.chunks(32).map(line).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

#[test]
fn commands() {
    for (name, command) in values::commands() {
        check(name, command, codec::encode_command, codec::decode_command);
    }
}

#[test]
fn snapshot() {
    check("snapshot", values::state(), codec::encode_snapshot, codec::decode_snapshot);
    let with_members = values::state_with_members();
    check("snapshot-members", with_members, codec::encode_snapshot, codec::decode_snapshot);
    check("snapshot-level", values::state_with_level(), codec::encode_snapshot, codec::decode_snapshot);
    check("snapshot-time", values::state_with_time(), codec::encode_snapshot, codec::decode_snapshot);
    let with_trust = values::state_with_trust();
    check("snapshot-trust", with_trust, codec::encode_snapshot, codec::decode_snapshot);
    let with_access = values::state_with_access();
    check("snapshot-access", with_access, codec::encode_snapshot, codec::decode_snapshot);
}

#[test]
fn assignments() {
    let encode = |list: &Vec<model::Assignment>| codec::encode_assignments(list);
    check("assignments", values::assignments(), encode, codec::decode_assignments);
}

/// If this one fails, an upgrade would roll out every service anew: its revisions would have other hashes.
#[test]
fn template() {
    for (name, template) in
        [("template", templates::template()), ("template-plain", templates::plain_template())]
    {
        let now = codec::encode_template(&template);
        assert_eq!(to_hex(&now), to_hex(&golden(name, &now)));
    }
}
