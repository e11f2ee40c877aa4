//! What callers can do beyond reading one text.

use manifest::{Errors, Source};
use model::CountOrPercent;

fn hello(name: &str) -> String {
    format!(
        "apiVersion: wharf/v1\nkind: Service\nmetadata: {{ name: {name} }}\nspec: {{ image: web:1, ports: [{{ name: http, port: 80, publish: 80 }}] }}\n"
    )
}

fn messages(errors: &Errors) -> Vec<&str> {
    errors.problems().iter().map(|problem| problem.message.as_str()).collect()
}

#[test]
fn files_that_are_applied_together_must_not_clash() {
    let (a, b) = (hello("a"), hello("b"));
    let sources = [("1.yaml", &a), ("2.yaml", &b), ("3.yaml", &a)].map(|(name, text)| Source { name, text });
    let errors = manifest::parse_all(&sources).unwrap_err();
    let expected = [
        "the service `a` is declared twice",
        "the services `a` and `b` both publish 80/tcp",
        "the services `a` and `a` both publish 80/tcp",
    ];
    assert_eq!(messages(&errors), expected);
    let problem = &errors.problems()[0];
    assert_eq!(problem.at.as_ref().unwrap().source_name, "3.yaml");
    assert_eq!(problem.related.as_ref().unwrap().0.source_name, "1.yaml");
}

#[test]
fn all_errors_of_all_files_come_at_once() {
    let sources =
        [("1.yaml", "a: 1"), ("2.yaml", ""), ("3.yaml", "\t")].map(|(name, text)| Source { name, text });
    let errors = manifest::parse_all(&sources).unwrap_err();
    let sources: Vec<&str> = errors.problems().iter().map(|problem| problem.source_name.as_str()).collect();
    for name in ["1.yaml", "2.yaml", "3.yaml"] {
        assert!(sources.contains(&name), "{errors}");
    }
}

#[test]
fn more_errors_than_anyone_reads_are_counted() {
    let items: String = (0..80).map(|i| format!("  unknown{i}x: 1\n")).collect();
    let text = hello("web")
        .replace("spec: { image: web:1, ports: [{ name: http, port: 80, publish: 80 }] }\n", "spec:\n");
    let errors = manifest::parse("x", &format!("{text}  image: web:1\n{items}")).unwrap_err();
    assert_eq!(errors.problems().len(), Errors::SHOWN);
    assert!(errors.to_string().ends_with("\nerror: 30 more not shown\n"), "{errors}");
}

#[test]
fn a_spec_that_no_manifest_could_say_is_refused() {
    let good = manifest::parse("x", &hello("web")).unwrap().remove(0);
    assert_eq!(manifest::check(&good), Ok(()));

    let mut bad = good.clone();
    bad.spec.replicas = 10_001;
    bad.spec.update.max_surge = CountOrPercent::Count(0);
    let errors = manifest::check(&bad).unwrap_err();
    let expected = [
        "`spec.replicas` must be a whole number from 0 to 10000, not 10001",
        "`maxSurge` and `maxUnavailable` are both 0: no replica could ever be replaced",
    ];
    assert_eq!(messages(&errors), expected);

    let mut bad = good.clone();
    bad.spec.template.main.name = model::Name::new("other").unwrap();
    assert_eq!(
        messages(&manifest::check(&bad).unwrap_err()),
        ["no manifest could say what the spec of `web` says"]
    );

    // At most one runs only where a rollout keeps to that too.
    let mut bad = good.clone();
    bad.spec.template.on_partition = model::OnPartition::Stop;
    let errors = manifest::check(&bad).unwrap_err();
    assert!(messages(&errors)[0].contains("at most one runs"), "{:?}", messages(&errors));

    // What only the server says of a spec is no fault of it.
    let mut applied = good;
    applied.spec.template.restart_nonce = 3;
    applied.spec.template.main.image.digest = Some(digest('a'));
    assert_eq!(manifest::check(&applied), Ok(()));
}

fn digest(digit: char) -> model::Digest {
    format!("sha256:{}", digit.to_string().repeat(64)).parse().unwrap()
}

#[test]
fn a_tag_that_means_other_bytes_is_a_change_once_both_are_resolved() {
    let manifest = manifest::parse("x", &hello("web")).unwrap().remove(0);
    let resolved = |digit| {
        let mut resolved = manifest.clone();
        resolved.spec.template.main.image.digest = Some(digest(digit));
        resolved
    };
    let (old, new) = (resolved('a'), resolved('b'));
    let changes = manifest::diff(Some((&old).into()), &new);
    let [change] = changes.as_slice() else { panic!("{changes:?}") };
    assert_eq!((change.path.as_str(), change.restarts), ("spec.image", true));
    assert_eq!(change.new.as_deref(), Some(format!("web:1 ({})", digest('b')).as_str()));
    // Not yet resolved, nothing is known to be different.
    assert_eq!(manifest::diff(Some((&old).into()), &manifest), []);
}
