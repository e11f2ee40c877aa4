//! Text with a meaning: names, images, paths, users, signals, capabilities.

use std::fmt::Write as _;

use model::{Capabilities, Name, node::is_label_name, probe::ProbePort};
use serde_json::json;

use super::{Leaf, Wrong, number, text, without_nul};
use crate::suggest;
use crate::tree::{Kind, Scalar};

/// A DNS label.
pub(crate) const NAME: Leaf<Name> = Leaf {
    what: "a name of lower-case letters, digits and `-`",
    read: |scalar| {
        let text = text(scalar)?;
        Name::new(text).map_err(|error| {
            let says = format!("is not a name: {error}");
            Wrong::Says(says, near_name(text).map(|name| format!("write `{name}`")))
        })
    },
    write: |name| json!(name.as_str()),
    schema: || json!({ "type": "string", "pattern": NAME_PATTERN }),
};

pub(crate) const NAME_PATTERN: &str = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";

/// The name that a text becomes when what cannot stand in one is replaced.
fn near_name(text: &str) -> Option<Name> {
    let allowed = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    let mut near: String = text.to_lowercase().chars().map(allowed).take(Name::MAX_LEN).collect();
    while near.contains("--") {
        near = near.replace("--", "-");
    }
    Name::new(near.trim_matches('-')).ok()
}

/// What an image is called: `registry:port/path/name:tag@sha256:...`, of which only a name has to be there.
/// Source: the grammar of distribution/reference, as OCI registries use it.
pub(crate) const IMAGE: Leaf<String> = Leaf {
    what: "an image such as `wharf.local/hello:1`",
    read: |scalar| {
        let text = text(scalar)?;
        image_fault(text).map_or_else(|| Ok(text.to_owned()), |(says, help)| Err(Wrong::Says(says, help)))
    },
    write: |image| json!(image),
    schema: || json!({ "type": "string", "pattern": IMAGE_PATTERN, "maxLength": 1024 }),
};

const IMAGE_PATTERN: &str = "^([a-zA-Z0-9.-]+(:[0-9]{1,5})?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?$";

fn image_fault(image: &str) -> Option<(String, Option<String>)> {
    let wrong = |says: &str, help: Option<String>| Some((format!("is not an image: {says}"), help));
    if image.contains("://") {
        let help = image.split_once("://").map(|(_, rest)| format!("write it without a scheme: `{rest}`"));
        return wrong("it begins with a scheme", help);
    }
    let (tagged, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    if digest.is_some_and(|digest| digest.parse::<model::Digest>().is_err()) {
        return wrong("after `@` comes a digest: `sha256:` and 64 lower-case hex digits", None);
    }
    let last_slash = tagged.rfind('/').map_or(0, |slash| slash + 1);
    let colon = tagged[last_slash..].find(':').map(|colon| last_slash + colon);
    let (name, tag) = colon.map_or((tagged, None), |colon| (&tagged[..colon], Some(&tagged[colon + 1..])));
    if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
        return wrong(&format!("{tag:?} is no tag: a tag has letters, digits, `_`, `.` and `-`"), None);
    }
    let (host, path) = match name.split_once('/') {
        Some((first, rest)) if is_host(first) => (Some(first), rest),
        _ => (None, name),
    };
    if path.len() + host.map_or(0, str::len) > 255 {
        return wrong("its name is longer than 255 characters", None);
    }
    match path.split('/').find(|part| !is_path_part(part)) {
        None => None,
        Some(part) if is_path_part(&part.to_lowercase()) => {
            let lower = image.replacen(path, &path.to_lowercase(), 1);
            wrong("its name has upper-case letters", Some(format!("write `{lower}`")))
        }
        Some("") => wrong("a part of its name is empty", None),
        Some(part) => wrong(
            &format!("{part:?} has other characters than a-z, 0-9, and `.`, `_`, `-` between them"),
            None,
        ),
    }
}

fn is_tag(tag: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    (1..=128).contains(&tag.len()) && tag.chars().all(allowed) && !tag.starts_with(['.', '-'])
}

fn is_host(part: &str) -> bool {
    let (host, port) = part.split_once(':').map_or((part, None), |(host, port)| (host, Some(port)));
    let is_port =
        port.is_none_or(|port| (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit()));
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    let looks_like_one = part.contains(['.', ':']) || host == "localhost";
    looks_like_one && is_port && !host.is_empty() && host.chars().all(allowed)
}

fn is_path_part(part: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let inside = |c: char| alphanumeric(c) || matches!(c, '.' | '_' | '-');
    part.starts_with(alphanumeric) && part.ends_with(alphanumeric) && part.chars().all(inside)
}

/// An absolute path that stays where it says: nothing in it leads up again.
pub(crate) const PATH: Leaf<String> = Leaf {
    what: "an absolute path such as `/srv/data`",
    read: |scalar| {
        let path = without_nul(scalar)?;
        if !path.starts_with('/') {
            let relative = path.trim_start_matches("./");
            let has_no_fix = relative.is_empty() || path.contains("..");
            return Err(if has_no_fix { Wrong::Value } else { Wrong::Fix(format!("write `/{relative}`")) });
        }
        if path.split('/').any(|part| part == "..") {
            return Err(Wrong::Says(
                "cannot contain `..`".to_owned(),
                Some("write the path it leads to".to_owned()),
            ));
        }
        if path.len() > 4095 {
            return Err(Wrong::Says("is longer than the 4095 bytes that Linux takes".to_owned(), None));
        }
        Ok(path)
    },
    write: |path| json!(path),
    schema: || json!({ "type": "string", "pattern": r"^/[^\x00]*$", "not": { "pattern": r"/\.\.(/|$)" }, "maxLength": 4095 }),
};

/// The path of an HTTP request, query included.
pub(crate) const URL_PATH: Leaf<String> = Leaf {
    what: "the path of a URL such as `/healthz`",
    read: |scalar| {
        let path = text(scalar)?;
        if path.contains("://") {
            return Err(Wrong::Fix("write only the path; the probe asks the replica itself".to_owned()));
        }
        if !path.starts_with('/') {
            return Err(Wrong::Fix(format!("write `/{path}`")));
        }
        let fits = path.len() <= 2048 && path.bytes().all(|b| b.is_ascii_graphic());
        if fits {
            Ok(path.to_owned())
        } else {
            Err(Wrong::Fix("write spaces and other characters as %20".to_owned()))
        }
    },
    write: |path| json!(path),
    schema: || json!({ "type": "string", "pattern": "^/[!-~]*$", "maxLength": 2048 }),
};

/// `user`, `uid`, `user:group` or `uid:gid`.
pub(crate) const USER: Leaf<String> = Leaf {
    what: "a user: `name`, `uid`, `name:group` or `uid:gid`",
    read: |scalar| {
        let user = match scalar.kind() {
            Kind::Int => scalar.text.as_str(),
            Kind::Text => scalar.text.as_str(),
            Kind::Null | Kind::Bool(_) | Kind::Float => return Err(Wrong::Value),
        };
        let (name, group) = user.split_once(':').map_or((user, None), |(name, group)| (name, Some(group)));
        let good = is_account(name) && group.is_none_or(is_account);
        if good { Ok(user.to_owned()) } else { Err(Wrong::Value) }
    },
    write: |user| user.parse::<u32>().map_or_else(|_| json!(user), |uid| json!(uid)),
    schema: || {
        json!({ "anyOf": [
            { "type": "integer", "minimum": 0, "maximum": MAX_ID },
            { "type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$" },
        ] })
    },
};

/// The largest id of a user or group: all ones means "no change" to the system calls. Source: chown(2).
const MAX_ID: u32 = u32::MAX - 1;

fn is_account(name: &str) -> bool {
    if name.bytes().all(|b| b.is_ascii_digit()) {
        // Only in its shortest form, so that one user has one spelling.
        return name.parse::<u32>().is_ok_and(|id| id <= MAX_ID && id.to_string() == name);
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    name.len() <= 32 && name.chars().all(allowed) && !name.starts_with(['-', '.'])
}

/// Signals by their numbers on every architecture that wharf runs on. Source: signal(7), "x86/ARM and most others".
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

pub(crate) const SIGNAL: Leaf<u8> = Leaf {
    what: "a signal: a name such as `SIGTERM` or a number from 1 to 64",
    read: |scalar| {
        if scalar.kind() == Kind::Int {
            let known = number(&scalar.text).and_then(|signal| u8::try_from(signal).ok());
            return known.filter(|signal| (1..=64).contains(signal)).ok_or(Wrong::Value);
        }
        let written = text(scalar)?.to_ascii_uppercase();
        let name = written.strip_prefix("SIG").unwrap_or(&written);
        let number = SIGNALS.iter().position(|known| *known == name).map(|index| index as u8 + 1);
        number.ok_or_else(|| match suggest::nearest(name, &SIGNALS) {
            Some(near) => Wrong::Fix(format!("did you mean `SIG{near}`?")),
            None if name.starts_with("RT") => {
                Wrong::Fix("write a real-time signal as its number, 34 to 64".to_owned())
            }
            None => Wrong::Value,
        })
    },
    write: |signal| match SIGNALS.get(usize::from(*signal).wrapping_sub(1)) {
        Some(name) => json!(format!("SIG{name}")),
        None => json!(signal),
    },
    schema: || {
        json!({ "anyOf": [
            { "type": "integer", "minimum": 1, "maximum": 64 },
            { "type": "string", "pattern": any_case(&SIGNALS, "SIG") },
        ] })
    },
};

/// A pattern for any of the words, in any case, with or without the prefix.
fn any_case(words: &[&str], prefix: &str) -> String {
    let either_case = |word: &str| {
        word.chars().fold(String::new(), |mut pattern, c| {
            match c.is_ascii_alphabetic() {
                true => write!(pattern, "[{c}{}]", c.to_ascii_lowercase()).unwrap_or_default(),
                false => pattern.push(c),
            }
            pattern
        })
    };
    let words: Vec<String> = words.iter().map(|word| either_case(word)).collect();
    format!("^({})?({})$", either_case(prefix), words.join("|"))
}

/// A capability that may be added.
pub(crate) const ADDED_CAPABILITY: Leaf<String> = Leaf {
    what: "a capability such as `NET_BIND_SERVICE`",
    read: |scalar| match capability(scalar) {
        Ok(name) if name == "ALL" => {
            let help = "name those that the program needs; capabilities(7) lists them".to_owned();
            Err(Wrong::Says("cannot be `ALL`".to_owned(), Some(help)))
        }
        other => other,
    },
    write: |name| json!(name),
    schema: || json!({ "type": "string", "pattern": any_case(&Capabilities::ALL, "CAP_") }),
};

/// A capability that may be dropped, or `ALL`.
pub(crate) const DROPPED_CAPABILITY: Leaf<String> = Leaf {
    what: "a capability such as `NET_BIND_SERVICE`, or `ALL`",
    read: capability,
    write: |name| json!(name),
    schema: || {
        let all: Vec<&str> = Capabilities::ALL.into_iter().chain(["ALL"]).collect();
        json!({ "type": "string", "pattern": any_case(&all, "CAP_") })
    },
};

/// The name as the model has it: upper-case, without `CAP_`.
fn capability(scalar: &Scalar) -> Result<String, Wrong> {
    let written = text(scalar)?.to_ascii_uppercase();
    let name = written.strip_prefix("CAP_").unwrap_or(&written);
    if name == "ALL" || Capabilities::ALL.contains(&name) {
        return Ok(name.to_owned());
    }
    Err(match suggest::nearest(name, &Capabilities::ALL) {
        Some(near) => Wrong::Fix(format!("did you mean `{near}`?")),
        None => Wrong::Fix("capabilities(7) lists them".to_owned()),
    })
}

/// A number, or the name of one of the replica's ports.
pub(crate) const PROBE_PORT: Leaf<ProbePort> = Leaf {
    what: "the name of a port, or a number from 1 to 65535",
    read: |scalar| {
        if scalar.kind() == Kind::Int {
            let port = number(&scalar.text).and_then(|port| u16::try_from(port).ok());
            return port.filter(|port| *port > 0).map(ProbePort::Number).ok_or(Wrong::Value);
        }
        Name::new(text(scalar)?).map(ProbePort::Named).map_err(|_| Wrong::Value)
    },
    write: |port| match port {
        ProbePort::Number(number) => json!(number),
        ProbePort::Named(name) => json!(name.as_str()),
    },
    schema: || {
        json!({ "anyOf": [
            { "type": "integer", "minimum": 1, "maximum": 65_535 },
            { "type": "string", "pattern": NAME_PATTERN },
        ] })
    },
};

pub(crate) fn is_env_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(allowed)
}

pub(crate) const ENV_NAME_PATTERN: &str = "^[A-Za-z_][A-Za-z0-9_.-]*$";

pub(crate) const LABEL_NAME_PATTERN: &str = "^[A-Za-z0-9]([A-Za-z0-9_./-]{0,251}[A-Za-z0-9])?$";

/// The name of a label, where it stands as a value.
pub(crate) const LABEL_NAME: Leaf<String> = Leaf {
    what: "the name of a label such as `zone`",
    read: |scalar| match text(scalar)? {
        name if is_label_name(name) => Ok(name.to_owned()),
        _ => Err(Wrong::Value),
    },
    write: |name| json!(name),
    schema: || json!({ "type": "string", "pattern": LABEL_NAME_PATTERN }),
};

/// The value of a label: short, and of one line, as it is shown in tables.
pub(crate) const LABEL_VALUE: Leaf<String> = Leaf {
    what: "a text of one line and at most 253 characters",
    read: |scalar| match text(scalar)? {
        value if value.chars().count() > 253 || value.chars().any(char::is_control) => Err(Wrong::Value),
        value => Ok(value.to_owned()),
    },
    write: |value| json!(value),
    schema: || json!({ "type": "string", "maxLength": 253, "pattern": r"^[^\x00-\x1f\x7f-\x9f]*$" }),
};
