//! PEM (RFC 7468): how keys, certificates and bundles are written, so that `openssl` reads them too.
//!
//! Stricter than the RFC, since only wharf writes what it reads: lines of 64 characters, no headers inside a section. Lines
//! outside of sections are kept: a bundle's first line says what it is.
//!
//! Private keys pass through here, so buffers are reserved before they are filled and wiped when dropped.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

pub(crate) const CERTIFICATE: &str = "CERTIFICATE";
pub(crate) const PRIVATE_KEY: &str = "PRIVATE KEY";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    #[error("line {0}: expected base64 in lines of 64 characters")]
    Base64(usize),
    #[error("the section {0} has no end: the file is cut off")]
    Unfinished(String),
    #[error("line {0}: the end of another section than the one begun")]
    Crossed(usize),
    #[error("expected the sections {expected}, found {found}")]
    Sections { expected: String, found: String },
}

pub(crate) struct Section<'a> {
    pub label: &'a str,
    pub der: Zeroizing<Vec<u8>>,
}

pub(crate) struct Document<'a> {
    /// What stands outside of sections, without empty lines.
    pub text: Vec<&'a str>,
    pub sections: Vec<Section<'a>>,
}

/// Appends one section.
pub(crate) fn write(label: &str, der: &[u8], out: &mut Zeroizing<String>) {
    const BYTES_IN_A_LINE: usize = 48;
    out.reserve(der.len().div_ceil(BYTES_IN_A_LINE) * 65 + 2 * label.len() + 40);
    out.push_str(&format!("-----BEGIN {label}-----\n"));
    for line in der.chunks(BYTES_IN_A_LINE) {
        STANDARD.encode_string(line, out);
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
}

pub(crate) fn read(text: &str) -> Result<Document<'_>, PemError> {
    let mut document = Document { text: Vec::new(), sections: Vec::new() };
    let mut open: Option<Section<'_>> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_end();
        let ends = boundary(line, "-----END ");
        open = match (open.take(), ends) {
            (None, Some(_)) => return Err(PemError::Crossed(number)),
            (None, None) => match boundary(line, "-----BEGIN ") {
                // No section of ours is longer than the text that it is read from.
                Some(label) => Some(Section { label, der: Zeroizing::new(Vec::with_capacity(text.len())) }),
                None if line.is_empty() => None,
                None => {
                    document.text.push(line);
                    None
                }
            },
            (Some(section), Some(label)) if label == section.label => {
                document.sections.push(section);
                None
            }
            (Some(_), Some(_)) => return Err(PemError::Crossed(number)),
            (Some(mut section), None) => {
                let decoded = STANDARD.decode_vec(line, &mut section.der);
                decoded.map_err(|_| PemError::Base64(number))?;
                Some(section)
            }
        };
    }
    match open {
        Some(section) => Err(PemError::Unfinished(section.label.to_owned())),
        None => Ok(document),
    }
}

fn boundary<'a>(line: &'a str, begins: &str) -> Option<&'a str> {
    line.strip_prefix(begins)?.strip_suffix("-----")
}

impl<'a> Document<'a> {
    /// The sections' contents, if they are labelled exactly so.
    pub(crate) fn exactly<const N: usize>(
        self,
        labels: [&str; N],
    ) -> Result<[Zeroizing<Vec<u8>>; N], PemError> {
        let found: Vec<&str> = self.sections.iter().map(|section| section.label).collect();
        let wrong = PemError::Sections { expected: labels.join(", "), found: found.join(", ") };
        if found != labels {
            return Err(wrong);
        }
        let contents: Vec<_> = self.sections.into_iter().map(|section| section.der).collect();
        contents.try_into().map_err(|_| wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(first in prop::collection::vec(any::<u8>(), 0..300), second: [u8; 32]) {
            let mut text = Zeroizing::new("wharf-thing 1\n".to_owned());
            write(CERTIFICATE, &first, &mut text);
            write(PRIVATE_KEY, &second, &mut text);
            let document = read(&text).unwrap();
            prop_assert_eq!(&document.text, &["wharf-thing 1"]);
            let [one, two] = document.exactly([CERTIFICATE, PRIVATE_KEY]).unwrap();
            prop_assert_eq!(&*one, &first);
            prop_assert_eq!(&two[..], &second);
        }
    }

    #[test]
    fn what_is_damaged_is_refused() {
        let refused = |text: &str| read(text).map(|_| ()).unwrap_err();
        assert_eq!(refused("-----BEGIN A-----\nAAAA\n"), PemError::Unfinished("A".to_owned()));
        assert_eq!(refused("-----BEGIN A-----\nAAA\n-----END A-----\n"), PemError::Base64(2));
        assert_eq!(refused("-----BEGIN A-----\nAAAA\n-----END B-----\n"), PemError::Crossed(3));
        assert_eq!(refused("-----END A-----\n"), PemError::Crossed(1));
        let one = read("-----BEGIN A-----\nAAAA\n-----END A-----\n").unwrap();
        let wrong = one.exactly(["A", "B"]).unwrap_err().to_string();
        assert_eq!(wrong, "expected the sections A, B, found A");
    }
}
