//! What must hold for every service and every text.

use std::sync::LazyLock;

use manifest::{Change, Form, Manifest, Style};
use model::{Bytes, Millis, Name, ServiceSpec};
use proptest::prelude::*;

use crate::generated::{Declaration, declaration};
use crate::golden;

fn the_only(manifests: Vec<Manifest>) -> Declaration {
    let [Manifest { key, labels, annotations, spec, .. }] = <[Manifest; 1]>::try_from(manifests).unwrap();
    Declaration { key, labels, annotations, spec }
}

fn restarts(changes: &[Change]) -> bool {
    changes.iter().any(|change| change.restarts)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back(service in declaration()) {
        for form in [Form::Short, Form::Full] {
            let yaml = manifest::to_yaml(service.declared(), form);
            let read = manifest::parse("round trip", &yaml);
            let read = read.map_err(|errors| TestCaseError::fail(format!("{errors}\n{yaml}")))?;
            let read = the_only(read);
            prop_assert_eq!(&read.key, &service.key);
            prop_assert_eq!(&read.labels, &service.labels);
            prop_assert_eq!(&read.annotations, &service.annotations);
            prop_assert_eq!(&read.spec, &service.spec, "{}", yaml);
        }
        prop_assert_eq!(manifest::check(service.declared()), Ok(()));
    }

    /// A check makes no text where all is well; it must come to what the text would.
    #[test]
    fn a_check_says_what_reading_the_text_says(service in declaration(), how in 0usize..12) {
        let broken = broken(&service, how);
        let read = manifest::parse("checked", &manifest::to_yaml(broken.declared(), Form::Full));
        let same = read.is_ok_and(|read| {
            let read = the_only(read);
            (&read.labels, &read.annotations, &read.spec) == (&broken.labels, &broken.annotations, &broken.spec)
        });
        prop_assert_eq!(manifest::check(broken.declared()).is_ok(), same, "{:?}", broken);
    }

    #[test]
    fn json_is_yaml_too(service in declaration()) {
        let json = manifest::to_json(service.declared(), Form::Full).to_string();
        // JSON's escapes beyond the BMP are surrogates, which YAML does not have; serde_json writes none.
        let read = manifest::parse("json", &json).map_err(|errors| TestCaseError::fail(format!("{errors}\n{json}")))?;
        prop_assert_eq!(the_only(read).spec, service.spec);
    }

    #[test]
    fn a_diff_is_empty_only_for_the_same_and_knows_what_makes_a_revision(old in declaration(), new in declaration()) {
        let new = Declaration { key: old.key.clone(), ..new };
        let changes = manifest::diff(Some(old.declared()), new.declared());
        prop_assert_eq!(restarts(&changes), old.spec.template != new.spec.template);
        prop_assert!(manifest::diff(Some(old.declared()), old.declared()).is_empty());
        let text = manifest::render_diff(&changes, &Style::PLAIN);
        prop_assert_eq!(text.lines().count(), changes.len());
    }

    #[test]
    fn a_change_of_any_part_is_seen(old in declaration(), other in declaration(), part in 0usize..10) {
        let spec = with_part_of(&old.spec, &other.spec, part);
        let new = Declaration { spec, ..old.clone() };
        let changes = manifest::diff(Some(old.declared()), new.declared());
        prop_assert_eq!(changes.is_empty(), old.spec == new.spec, "{:?}", changes);
        prop_assert_eq!(restarts(&changes), old.spec.template != new.spec.template, "{:?}", changes);
    }
}

/// The service with something that may be wrong in it.
fn broken(service: &Declaration, how: usize) -> Declaration {
    let mut broken = service.clone();
    let Declaration { labels, annotations, spec, .. } = &mut broken;
    let main = &mut spec.template.main;
    match how {
        0 => spec.replicas = 10_001,
        1 => main.name = Name::new("another").unwrap(),
        2 => drop(main.env.insert("no name".to_owned(), String::new())),
        3 => drop(main.env.insert("NAME".to_owned(), "a \u{7} \u{85} \u{feff} \n ".to_owned())),
        4 => drop(main.env.insert("NAME".to_owned(), "\0".to_owned())),
        5 => main.resources.memory = Bytes(1),
        6 => main.image.reference = "No Image".to_owned(),
        7 => spec.template.stop_grace = Millis::from_secs(3_601),
        8 => main.command = Some(Vec::new()),
        9 => spec.template.ports.extend(service.spec.template.ports.clone()),
        10 => drop(labels.insert("label".to_owned(), "no label!".to_owned())),
        _ => drop(annotations.insert("note".to_owned(), "x".repeat(1 << 20))),
    }
    broken
}

/// The spec with one part taken from another.
fn with_part_of(spec: &ServiceSpec, other: &ServiceSpec, part: usize) -> ServiceSpec {
    let mut spec = spec.clone();
    let (main, from) = (&mut spec.template.main, &other.template.main);
    match part {
        0 => spec.replicas = other.replicas,
        1 => spec.update = other.update,
        2 => main.image = from.image.clone(),
        3 => main.env = from.env.clone(),
        4 => main.command = from.command.clone(),
        5 => main.resources = from.resources,
        6 => main.mounts = from.mounts.clone(),
        7 => spec.template.ports.reverse(),
        8 => spec.template.sidecars.reverse(),
        _ => main.mounts.reverse(),
    }
    spec
}

/// Whatever the text, there is an answer, and every place that an error names is in the text.
fn check_any_text(text: &str) {
    let Err(errors) = manifest::parse("any", text) else { return };
    assert!(!errors.problems().is_empty());
    // A carriage return alone ends a line in YAML.
    let lines = text.replace('\r', "\n").lines().count().max(1);
    for problem in errors.problems() {
        let Some(place) = &problem.at else { continue };
        assert!((1..=lines + 1).contains(&place.line), "{problem:?}");
        assert!(place.column >= 1 && place.length >= 1, "{problem:?}");
    }
    let shown = errors.to_string();
    assert!(shown.lines().all(|line| line.chars().count() < 1_000), "{shown}");
}

static KNOWN_TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let folders = ["tests/malformed", "tests/good", "../../manifests", "../../manifests/warehouse"];
    let files = folders.into_iter().flat_map(|folder| golden::files(folder, "yaml"));
    files.map(|file| golden::read(&file)).collect()
});

/// A change of a text at a place: something is removed, repeated or put in.
#[derive(Clone, Debug)]
enum Edit {
    Remove { at: usize, len: usize },
    Repeat { at: usize, len: usize },
    Insert { at: usize, text: String },
}

fn edit() -> impl Strategy<Value = Edit> {
    let tokens = [
        ":",
        ": ",
        "- ",
        "\n",
        "  ",
        "\t",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "'",
        "|",
        ">",
        "&a ",
        "*a",
        "!",
        "#",
        "?",
        "? ",
        "---\n",
        "...\n",
        "%",
        "<<: ",
        "\r",
        "\u{feff}",
        "\0",
        "~",
        "99999999999999999999",
        "-1",
        "1e999",
        "é",
        "🦀",
        ",",
        "\\",
    ];
    prop_oneof![
        (any::<usize>(), 1usize..40).prop_map(|(at, len)| Edit::Remove { at, len }),
        (any::<usize>(), 1usize..200).prop_map(|(at, len)| Edit::Repeat { at, len }),
        (any::<usize>(), proptest::sample::select(tokens.to_vec()))
            .prop_map(|(at, text)| Edit::Insert { at, text: text.to_owned() }),
    ]
}

fn apply(text: &str, edits: &[Edit]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for edit in edits {
        let end = chars.len();
        let range = |at: usize, len: usize| {
            let start = at % (end + 1);
            start..(start + len).min(end)
        };
        match edit {
            Edit::Remove { at, len } => drop(chars.drain(range(*at, *len))),
            Edit::Repeat { at, len } => {
                let range = range(*at, *len);
                let part = chars[range.clone()].to_vec();
                chars.splice(range.end..range.end, part);
            }
            Edit::Insert { at, text } => drop(chars.splice(range(*at, 0), text.chars())),
        }
    }
    chars.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn random_text_never_panics(text in "(?s).{0,200}") {
        check_any_text(&text);
    }

    #[test]
    fn random_yaml_like_text_never_panics(text in "([a-c&*!|>'\"{}\\[\\]:,?#%~<\t\n -]|: |- |\n  |---\n){0,80}") {
        check_any_text(&text);
    }

    #[test]
    fn mutated_manifests_never_panic(which in any::<usize>(), edits in proptest::collection::vec(edit(), 1..6)) {
        let texts = &*KNOWN_TEXTS;
        check_any_text(&apply(&texts[which % texts.len()], &edits));
    }
}

#[test]
fn huge_and_hostile_texts_are_answered_quickly() {
    let started = std::time::Instant::now();
    let many = |part: &str| part.repeat((1 << 20) / part.len());
    for text in [
        many("["),
        many("{a: "),
        many("- "),
        many("a: b\n"),
        many("? "),
        many("&a "),
        many("'"),
        many("!"),
        many("\n"),
        many("a"),
    ] {
        check_any_text(&text);
    }
    check_any_text(&"x".repeat((1 << 20) + 1));
    let took = started.elapsed();
    assert!(took.as_secs() < 60, "it took {took:?}");
}
