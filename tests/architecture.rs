//! The house rules that the compiler does not check: which crate may depend on which, and that crates which decide
//! neither do I/O nor know the time, a random number or the wire.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Every crate and the crates of this workspace that it may name. A new crate or a new arrow is a decision: it is
/// made here, and explained in crates/README.md.
const ARROWS: &[(&str, &[&str])] = &[
    ("reference", &[]),
    ("subnet", &[]),
    ("durable_file", &[]),
    ("model", &["reference", "subnet"]),
    ("manifest", &["model"]),
    ("store", &["model"]),
    ("consensus", &[]),
    ("orchestrator", &["model", "store"]),
    ("scheduler", &["model", "store"]),
    ("manager", &["reference", "model", "store", "consensus", "orchestrator", "scheduler"]),
    ("proto", &["model", "store"]),
    ("trust", &["model"]),
    ("dial", &["model", "trust"]),
    ("image", &["reference", "durable_file"]),
    ("network", &["subnet"]),
    ("runtime", &[]),
    ("agent", &["durable_file", "model", "proto", "trust", "dial", "image", "network", "runtime"]),
    (
        "server",
        &["durable_file", "model", "manifest", "store", "consensus", "manager", "proto", "trust", "dial"],
    ),
    (
        "cli",
        &[
            "durable_file",
            "model",
            "manifest",
            "proto",
            "trust",
            "dial",
            "server",
            "agent",
            "runtime",
            "image",
            "network",
        ],
    ),
    ("sim", &["model", "store", "consensus", "orchestrator", "scheduler", "manager", "agent", "server"]),
];

/// Crates, and parts of crates, that take events and return effects.
const PURE: &[&str] = &[
    "reference/src",
    "subnet/src",
    "model/src",
    "manifest/src",
    "store/src",
    "consensus/src",
    "orchestrator/src",
    "scheduler/src",
    "manager/src",
    "agent/src/core",
];

/// What a pure crate must not name, and why.
const FORBIDDEN: &[(&str, &str)] = &[
    ("tokio", "it owns no thread and waits for nothing"),
    ("prost", "the wire format belongs to `proto`"),
    ("tonic", "the wire format belongs to `proto`"),
    ("SystemTime", "the time is handed in"),
    ("Instant", "the time is handed in"),
    ("thread_rng", "choices are made from a seed that is handed in"),
    ("rand::", "choices are made from a seed that is handed in"),
    ("std::fs", "it does no I/O"),
    ("std::net::Tcp", "it does no I/O"),
    ("std::thread", "it owns no thread"),
    ("std::process", "it does no I/O"),
    ("std::env", "it does no I/O"),
];

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates")
}

/// The names before `.workspace` or ` =` in the `[dependencies]` section of a crate.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let section = manifest.split("[dependencies]").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    let name = |line: &str| line.split(['.', ' ', '=']).next().unwrap_or_default().to_owned();
    section.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).map(name).collect()
}

#[test]
fn dependencies_point_one_way() {
    let arrows: BTreeMap<&str, BTreeSet<&str>> =
        ARROWS.iter().map(|(name, may)| (*name, may.iter().copied().collect())).collect();
    let mut broken = Vec::new();
    for entry in fs::read_dir(crates()).expect("the crates") {
        let path = entry.expect("an entry").path();
        let Ok(manifest) = fs::read_to_string(path.join("Cargo.toml")) else { continue };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(may) = arrows.get(name.as_str()) else {
            broken.push(format!("crate {name} is not in the table of arrows"));
            continue;
        };
        for dependency in dependencies(&manifest) {
            if arrows.contains_key(dependency.as_str()) && !may.contains(dependency.as_str()) {
                broken.push(format!("{name} must not depend on {dependency}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn deciding_crates_do_nothing_but_decide() {
    let mut broken = Vec::new();
    for part in PURE {
        let folder = crates().join(part);
        assert!(folder.is_dir(), "{} is missing", folder.display());
        for file in rust_files(&folder) {
            let text = fs::read_to_string(&file).expect("a source file");
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for (number, line) in code.enumerate() {
                for (word, why) in FORBIDDEN {
                    if line.contains(word) {
                        broken.push(format!("{}:{} names {word}: {why}", file.display(), number + 1));
                    }
                }
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Where a server's steady clock is used, which an administrator or NTP does not set: for spans alone. The validity of
/// certificates and tokens is agreed on with other hosts, so it goes by what the wall's clock shows at that moment.
const STEADY: &[&str] = &["brain/worker.rs", "control/read.rs"];

#[test]
fn what_hosts_agree_on_goes_by_the_wall_clock() {
    let source = |file: &Path| fs::read_to_string(file).expect("a source file");
    let server = crates().join("server/src");
    let steady: BTreeSet<PathBuf> = STEADY.iter().map(|file| server.join(file)).collect();
    let counts = |file: &PathBuf| {
        let text = source(file);
        ["clock::now", "clock::{self, now}", "clock::{now"].iter().any(|use_of| text.contains(use_of))
    };
    let counting: BTreeSet<PathBuf> = rust_files(&server).into_iter().filter(counts).collect();
    assert_eq!(counting, steady);
    let of_certificates =
        ["session/renewal.rs", "session/ways.rs"].map(|file| crates().join("agent/src").join(file));
    let steady = of_certificates.iter().filter(|file| source(file).contains("clock.now()"));
    assert_eq!(steady.collect::<Vec<_>>(), Vec::<&PathBuf>::new());
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
