//! The examples that the repository shows to people.

use manifest::Source;

use crate::golden;

#[test]
fn the_examples_can_be_applied_all_together() {
    let mut files = golden::files("../../manifests", "yaml");
    files.extend(golden::files("../../manifests/warehouse", "yaml"));
    assert!(files.len() >= 5);
    let texts: Vec<(String, String)> =
        files.iter().map(|f| (f.display().to_string(), golden::read(f))).collect();
    let sources: Vec<Source<'_>> = texts.iter().map(|(name, text)| Source { name, text }).collect();
    let manifests = manifest::parse_all(&sources).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(manifests.len(), files.len());
}
