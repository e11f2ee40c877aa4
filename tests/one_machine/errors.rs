//! What a user gets wrong is told in words, with the exit code that CI looks at, and changes nothing.

use tests::Cluster;

use crate::{ONE, hello};

#[test]
fn errors_name_the_thing_the_reason_and_the_next_step() {
    let cluster = Cluster::start();
    let malformed = cluster.apply("web", &hello(1, ONE, "", "  replica: 3\n"));
    assert_eq!(malformed.code, 2, "{malformed:#?}");
    assert!(malformed.stderr.contains("replica") && malformed.stderr.contains("web.yaml:"), "{malformed:#?}");

    let unknown = cluster.apply("web", &hello(1, "no/such:1", "", ""));
    assert_eq!(unknown.code, 1, "{unknown:#?}");
    assert!(
        unknown.stderr.contains("no/such:1") && unknown.stderr.contains("wharf image load"),
        "{unknown:#?}"
    );

    let too_large = hello(1, ONE, "", "").replace("memory: 64Mi", "memory: 4Ti");
    let unplaceable = cluster.apply("web", &too_large);
    assert_eq!(unplaceable.code, 6, "{unplaceable:#?}");
    assert!(unplaceable.stdout.contains("too little memory"), "{unplaceable:#?}");

    let typing = cluster.wharf(&["get", "services", "wev"]);
    assert_eq!(typing.code, 1, "{typing:#?}");
    assert!(typing.stderr.contains("did you mean web?"), "{typing:#?}");

    let verb = cluster.wharf(&["aply"]);
    assert_eq!(verb.code, 1, "{verb:#?}");
    assert!(verb.stderr.contains("apply"), "{verb:#?}");

    let taken = hello(1, ONE, "", "").replace("name: web", "name: other");
    let taken = cluster.apply("other", &taken);
    assert_eq!(taken.code, 1, "{taken:#?}");
    assert!(
        taken.stderr.contains("service other cannot publish port 18080/tcp: service web does"),
        "{taken:#?}"
    );
    cluster.end();
}

#[test]
fn only_root_may_talk_to_the_server() {
    use std::os::unix::fs::PermissionsExt;
    let cluster = Cluster::start();
    let mode = std::fs::metadata(cluster.socket()).expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    cluster.end();
}

#[test]
fn doctor_looks_at_this_host_and_a_dry_run_changes_nothing() {
    let cluster = Cluster::start();
    let findings = cluster.wharf(&["doctor", "-o", "json"]);
    let findings: serde_json::Value = serde_json::from_str(&findings.stdout).expect("JSON");
    assert!(findings.as_array().is_some_and(|list| list.len() > 5), "{findings:#}");
    let path = cluster.folder().join("web.yaml");
    std::fs::write(&path, hello(1, ONE, "", "")).expect("the manifest");
    let shown = cluster.ok(&["apply", "--dry-run", "-f", path.to_str().expect("UTF-8")]);
    assert!(shown.contains("created") && shown.contains("nothing was changed"), "{shown}");
    assert_eq!(cluster.wharf(&["get", "services", "web"]).code, 1);
    cluster.end();
}
