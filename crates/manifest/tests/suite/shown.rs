//! What people see: errors for manifests that are wrong, the full form of those that are right, and diffs.

use std::path::Path;

use manifest::{Declared, Form, Source, Style};

use crate::golden;

#[test]
fn every_malformed_manifest_gets_its_exact_errors() {
    let files = golden::files("tests/malformed", "yaml");
    assert!(files.len() >= 25, "only {} malformed manifests", files.len());
    let differences = files.iter().filter_map(|file| {
        let text = golden::read(file);
        let shown = match manifest::parse(golden::name(file), &text) {
            Ok(_) => panic!("{} is accepted", file.display()),
            Err(errors) => errors.to_string(),
        };
        golden::compare(&file.with_extension("txt"), &shown).err()
    });
    golden::fail_if_any(differences.collect());
}

#[test]
fn every_good_manifest_has_its_full_form_and_its_short_form_says_the_same() {
    let differences = golden::files("tests/good", "yaml").into_iter().filter_map(|file| {
        let text = golden::read(&file);
        let manifests =
            manifest::parse(golden::name(&file), &text).unwrap_or_else(|errors| panic!("{errors}"));
        let full: Vec<String> = manifests.iter().map(|read| manifest::to_yaml(read, Form::Full)).collect();
        let short: Vec<String> = manifests.iter().map(|read| manifest::to_yaml(read, Form::Short)).collect();
        for forms in [&full, &short] {
            let again =
                manifest::parse("again", &forms.join("---\n")).unwrap_or_else(|errors| panic!("{errors}"));
            let content = |m: &manifest::Manifest| {
                (m.key.clone(), m.labels.clone(), m.annotations.clone(), m.spec.clone())
            };
            assert_eq!(
                again.iter().map(content).collect::<Vec<_>>(),
                manifests.iter().map(content).collect::<Vec<_>>()
            );
        }
        let shown = format!("# Short.\n{}\n# Full.\n{}", short.join("---\n"), full.join("---\n"));
        golden::compare(&file.with_extension("txt"), &shown).err()
    });
    golden::fail_if_any(differences.collect());
}

/// The first document of each file is the old service, the second the new one; alone it is a new service.
#[test]
fn every_diff_shows_what_changes() {
    let files = golden::files("tests/diffs", "yaml");
    assert!(!files.is_empty());
    let differences = files.into_iter().filter_map(|file| {
        let text = golden::read(&file);
        let documents: Vec<&str> = text.split("---\n").collect();
        let sources = documents.iter().map(|text| Source { name: "document", text });
        let read: Vec<_> =
            sources.map(|source| manifest::parse(source.name, source.text).unwrap().remove(0)).collect();
        let (old, new) = match read.as_slice() {
            [new] => (None, new),
            [old, new] => (Some(Declared::from(old)), new),
            _ => panic!("{} has {} documents", file.display(), read.len()),
        };
        let changes = manifest::diff(old, new);
        let restarts = changes.iter().filter(|change| change.restarts).map(|change| change.path.as_str());
        let restarts = restarts.collect::<Vec<_>>().join(", ");
        let shown = format!(
            "{}new revision because of: {restarts}\n",
            manifest::render_diff(&changes, &Style::PLAIN)
        );
        golden::compare(&file.with_extension("txt"), &shown).err()
    });
    golden::fail_if_any(differences.collect());
}

#[test]
fn the_schema_is_what_it_was() {
    let shown = format!("{:#}\n", manifest::schema());
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schema.json");
    golden::fail_if_any(golden::compare(&golden, &shown).err().into_iter().collect());
}

#[test]
fn colours_only_wrap_what_is_there_without_them() {
    let errors = manifest::parse("x.yaml", "a: 1\n").unwrap_err();
    let mut coloured = errors.render(&Style::COLOURS);
    assert!(coloured.contains("\x1b["));
    for escape in
        [Style::COLOURS.error, Style::COLOURS.strong, Style::COLOURS.frame, Style::COLOURS.help, "\x1b[0m"]
    {
        coloured = coloured.replace(escape, "");
    }
    assert_eq!(coloured, errors.to_string());
}
