//! Every example of `manifests/` runs as it is.

use std::{fs, path::Path};

use tests::Cluster;

#[test]
fn every_example_becomes_healthy() {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests");
    let cluster = Cluster::start();
    let mut applied = 0;
    for entry in fs::read_dir(manifests).expect("the examples") {
        let path = entry.expect("an example").path();
        let name = path.display().to_string();
        let ended = cluster.wharf(&["apply", "--wait", "--timeout", "2m", "-f", &name]);
        assert_eq!(ended.code, 0, "{name}: {ended:#?}\n{}", cluster.log("agent.log"));
        let deleted = cluster.wharf(&["delete", "-f", &name]);
        assert_eq!(deleted.code, 0, "{name}: {deleted:#?}");
        applied += 1;
    }
    assert!(applied >= 2, "there are hello.yaml and warehouse/");
    cluster.end();
}
