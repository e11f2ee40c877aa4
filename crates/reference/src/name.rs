//! Image names as people write them, brought into one normal form.
//!
//! The grammar is the one of the distribution project's reference package: `[domain/]path[:tag][@digest]`, the first
//! part being a domain only when it holds a `.` or a `:` or is `localhost`.
//!
//! The normal form is the short one that Docker shows: `docker.io/library/busybox`, `index.docker.io/busybox`,
//! `library/busybox` and `busybox` are all `busybox:latest`. Every other domain stays (`wharf.local/hello:latest`,
//! `localhost/app:1`), because that is where two names that look alike differ.

use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, DigestError};

/// Which image is meant: a name with a tag, or exactly one digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// `repository:tag`, the tag `latest` if none was written.
    Tagged(TaggedName),
    /// `repository@digest` or a bare digest. A tag beside a digest is dropped: the digest already decides.
    Exact { repository: Option<String>, digest: Digest },
}

/// A normalised `repository:tag`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaggedName {
    repository: String,
    tag: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    #[error("the image name is empty; write a name such as \"busybox\" or \"registry.example/team/app:1.2\"")]
    Empty,
    #[error("image name {0:?} has capital letters in its repository; repositories are lower-case")]
    Uppercase(String),
    #[error(
        "image name {name:?}: {part:?} cannot be part of a repository; use lower-case letters and digits, \
         separated by \".\", \"_\", \"-\" or \"/\""
    )]
    Repository { name: String, part: String },
    #[error(
        "image name {name:?}: {tag:?} is not a tag; use at most 128 letters, digits, \"_\", \".\" or \"-\""
    )]
    Tag { name: String, tag: String },
    #[error("image name {0:?} is longer than the 255 characters that a repository may have")]
    TooLong(String),
    #[error("image name {name:?} ends in a bad digest")]
    Digest { name: String, source: DigestError },
    #[error(
        "image name {0:?} holds a digest; an image is stored under a name and a tag, such as \"app:1.2\""
    )]
    NotATag(String),
}

impl TaggedName {
    pub fn repository(&self) -> &str {
        &self.repository
    }

    pub fn tag(&self) -> &str {
        &self.tag
    }
}

impl fmt::Display for TaggedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

impl fmt::Debug for TaggedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for TaggedName {
    type Err = ReferenceError;
    /// For places that give an image its name: a digest is refused here.
    fn from_str(text: &str) -> Result<TaggedName, ReferenceError> {
        match text.parse()? {
            Reference::Tagged(name) => Ok(name),
            Reference::Exact { .. } => Err(ReferenceError::NotATag(text.to_owned())),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Reference, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if let Some(beginning) = too_long(text) {
            return Err(ReferenceError::TooLong(beginning));
        }
        if let Ok(digest) = text.parse::<Digest>() {
            return Ok(Reference::Exact { repository: None, digest });
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                let parsed = digest.parse::<Digest>();
                let bad = |source| ReferenceError::Digest { name: text.to_owned(), source };
                (name, Some(parsed.map_err(bad)?))
            }
            None => (text, None),
        };
        // A colon before the last slash belongs to the port of the domain.
        let (repository, tag) = match name.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, tag),
            _ => (name, "latest"),
        };
        let repository = normal_repository(text, repository)?;
        check_tag(text, tag)?;
        match digest {
            Some(digest) => Ok(Reference::Exact { repository: Some(repository), digest }),
            None => Ok(Reference::Tagged(TaggedName { repository, tag: tag.to_owned() })),
        }
    }
}

/// The beginning of what is longer than repository, tag and digest may be together: a message about it is to be read.
fn too_long(text: &str) -> Option<String> {
    const LONGEST: usize = 255 + ":".len() + 128 + "@sha256:".len() + 64;
    (text.len() > LONGEST).then(|| text.chars().take(64).chain("...".chars()).collect())
}

fn normal_repository(whole: &str, repository: &str) -> Result<String, ReferenceError> {
    if repository.len() > 255 {
        return Err(ReferenceError::TooLong(whole.to_owned()));
    }
    let (domain, path) = match repository.split_once('/') {
        Some((first, rest)) if is_domain(first) => (Some(first), rest),
        _ => (None, repository),
    };
    for part in path.split('/') {
        check_path_part(whole, part)?;
    }
    match domain {
        None | Some("docker.io" | "index.docker.io") => {
            Ok(path.strip_prefix("library/").filter(|rest| !rest.contains('/')).unwrap_or(path).to_owned())
        }
        Some(domain) => {
            check_domain(whole, domain)?;
            Ok(format!("{}/{path}", domain.to_ascii_lowercase()))
        }
    }
}

fn is_domain(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost"
}

fn check_domain(whole: &str, domain: &str) -> Result<(), ReferenceError> {
    let (host, port) = domain.split_once(':').unwrap_or((domain, "0"));
    let host_good = host.split('.').all(|label| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    });
    let port_good = port.parse::<u16>().is_ok();
    if host_good && port_good {
        return Ok(());
    }
    Err(ReferenceError::Repository { name: whole.to_owned(), part: domain.to_owned() })
}

fn check_path_part(whole: &str, part: &str) -> Result<(), ReferenceError> {
    if part.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(ReferenceError::Uppercase(whole.to_owned()));
    }
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends_good = |b: Option<&u8>| b.is_some_and(|b| alphanumeric(*b));
    let all_good = bytes.iter().all(|b| alphanumeric(*b) || matches!(b, b'.' | b'_' | b'-'));
    // A separator is one dot, one or two underscores, or any number of dashes.
    let separators_good = part
        .split(|c: char| c.is_ascii_alphanumeric())
        .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-'));
    if ends_good(bytes.first()) && ends_good(bytes.last()) && all_good && separators_good {
        return Ok(());
    }
    Err(ReferenceError::Repository { name: whole.to_owned(), part: part.to_owned() })
}

fn check_tag(whole: &str, tag: &str) -> Result<(), ReferenceError> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let good = tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'));
    if good { Ok(()) } else { Err(ReferenceError::Tag { name: whole.to_owned(), tag: tag.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn normal(text: &str) -> String {
        match text.parse::<Reference>() {
            Ok(Reference::Tagged(name)) => name.to_string(),
            Ok(Reference::Exact { repository, digest }) => {
                format!("{}@{}", repository.unwrap_or_default(), &digest.hex()[..4])
            }
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn names_have_one_normal_form() {
        let digest = Digest::of(b"");
        for (written, expected) in [
            ("busybox", "busybox:latest"),
            ("busybox:1.36", "busybox:1.36"),
            ("library/busybox", "busybox:latest"),
            ("docker.io/busybox", "busybox:latest"),
            ("docker.io/library/busybox:latest", "busybox:latest"),
            ("index.docker.io/library/busybox", "busybox:latest"),
            ("library/team/busybox", "library/team/busybox:latest"),
            ("team/app", "team/app:latest"),
            ("wharf.local/hello", "wharf.local/hello:latest"),
            ("localhost/app:1", "localhost/app:1"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("Registry.Example:443/a/b:C", "registry.example:443/a/b:C"),
            ("a__b/c---d.e", "a__b/c---d.e:latest"),
        ] {
            assert_eq!(normal(written), expected, "{written}");
        }
        assert_eq!(normal(&format!("busybox@{digest}")), "busybox@e3b0");
        assert_eq!(normal(&format!("docker.io/library/busybox:1@{digest}")), "busybox@e3b0");
        assert_eq!(normal(digest.as_str()), "@e3b0");
    }

    #[test]
    fn bad_names_say_what_is_wrong() {
        for (written, expected) in [
            (
                "",
                "the image name is empty; write a name such as \"busybox\" or \"registry.example/team/app:1.2\"",
            ),
            (
                "BusyBox",
                "image name \"BusyBox\" has capital letters in its repository; repositories are lower-case",
            ),
            (
                "../etc",
                "image name \"../etc\": \"..\" cannot be part of a repository; use lower-case letters and digits, \
                 separated by \".\", \"_\", \"-\" or \"/\"",
            ),
            (
                "a//b",
                "image name \"a//b\": \"\" cannot be part of a repository; use lower-case letters and digits, \
                 separated by \".\", \"_\", \"-\" or \"/\"",
            ),
            (
                "app:-x",
                "image name \"app:-x\": \"-x\" is not a tag; use at most 128 letters, digits, \"_\", \".\" or \"-\"",
            ),
            (
                &"a".repeat(1 << 20),
                &format!(
                    "image name \"{}...\" is longer than the 255 characters that a repository may have",
                    "a".repeat(64)
                ),
            ),
            ("app@sha256:00", "image name \"app@sha256:00\" ends in a bad digest"),
        ] {
            assert_eq!(normal(written), format!("error: {expected}"), "{written}");
        }
        assert!(matches!("app@sha256:00".parse::<TaggedName>(), Err(ReferenceError::Digest { .. })));
        assert!(matches!(Digest::of(b"").as_str().parse::<TaggedName>(), Err(ReferenceError::NotATag(_))));
    }

    proptest! {
        /// The normal form is a fixed point, and nothing makes the parser panic.
        #[test]
        fn normalising_twice_changes_nothing(text in "[a-zA-Z0-9./:@_ -]{0,40}") {
            if let Ok(Reference::Tagged(name)) = text.parse::<Reference>() {
                prop_assert_eq!(name.to_string().parse::<TaggedName>().unwrap(), name);
            }
        }
    }
}
