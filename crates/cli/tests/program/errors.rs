//! What is wrong is told with the thing, the reason and the next step; on standard error, with exit code 1 or 2.

use std::path::Path;

use proto::v1;

use crate::{
    server::{Fake, Script, completed, service},
    wharf,
};

/// `told` are parts of what standard error says.
fn check(socket: &Path, args: &[&str], code: i32, told: &[&str]) {
    let ended = wharf(socket, args);
    assert_eq!(ended.code, code, "{args:?}: {ended:#?}");
    for part in told {
        assert!(ended.stderr.contains(part), "{args:?} does not say {part:?}:\n{}", ended.stderr);
    }
    assert!(ended.stdout.is_empty(), "{args:?}: {ended:#?}");
}

#[test]
fn typing_errors_are_told_with_what_was_probably_meant() {
    let nowhere = Path::new("/nowhere/wharf.sock");
    check(nowhere, &["aply"], 1, &["'apply'"]);
    check(nowhere, &["get", "servises"], 1, &["'services'"]);
    check(nowhere, &["get", "services", "--wach"], 1, &["'--watch'"]);
    check(nowhere, &["rollout", "stauts", "web"], 1, &["'status'"]);
    check(nowhere, &["get", "services", "Web"], 1, &["no server answers"]);
    check(nowhere, &["describe", "Web"], 1, &["lower-case"]);
    check(nowhere, &["-n", "Shop", "get", "services"], 1, &["--namespace", "lower-case"]);
    check(nowhere, &["scale", "web.1", "3"], 1, &["say web"]);
    check(nowhere, &["logs", "web", "--since", "5x"], 1, &["10m"]);
    check(nowhere, &["delete", "web.1"], 1, &["`wharf scale web N`"]);
}

#[test]
fn a_server_that_is_not_there_is_told_with_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("none.sock");
    check(&missing, &["get", "services"], 1, &["no server answers at", "no such socket", "`wharf dev`"]);
    let stale = folder.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).expect("a socket"));
    check(&stale, &["get", "services"], 1, &["has ended", "`wharf dev`"]);
}

#[test]
fn manifests_are_read_before_a_server_is_asked() {
    let nowhere = Path::new("/nowhere/wharf.sock");
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("bad.yaml"), "apiVersion: wharf/v1\nkind: Servise\n").expect("a file");
    std::fs::create_dir(path("empty")).expect("a folder");
    for verb in ["apply", "diff", "delete"] {
        check(nowhere, &[verb, "-f", &path("bad.yml")], 1, &["cannot read", "did you mean", "bad.yaml?"]);
        check(nowhere, &[verb, "-f", &path("empty")], 1, &["holds no .yaml or .yml files"]);
        check(
            nowhere,
            &[verb, "-f", &path("bad.yaml")],
            2,
            &["Servise", "bad.yaml:2:7", "nothing was changed"],
        );
    }
}

#[test]
fn a_service_that_is_not_there_is_told_with_where_it_is() {
    let not_found = Some((v1::Reason::NotFound, "there is no service nope".to_owned()));
    let services = vec![service("shop", completed())];
    let fake = Fake::start(Script { services, refuses: not_found, ..Script::default() });
    let socket = fake.socket();
    let elsewhere = ["no service web in namespace default", "shop/web"];
    check(&socket, &["get", "services", "web"], 1, &elsewhere);
    check(&socket, &["describe", "web"], 1, &elsewhere);
    check(&socket, &["scale", "web", "2"], 1, &elsewhere);
    check(&socket, &["rollout", "status", "web"], 1, &elsewhere);
    check(&socket, &["rollout", "restart", "web"], 1, &elsewhere);
    check(&socket, &["rollout", "undo", "web"], 1, &elsewhere);
    check(&socket, &["delete", "web"], 1, &elsewhere);
    check(&socket, &["get", "services", "-n", "shop", "wev"], 1, &["did you mean web?"]);
    check(&socket, &["get", "services", "-n", "shpo", "orders"], 1, &["did you mean -n shop?"]);
    check(&socket, &["get", "replicas", "shop/web.7"], 1, &["no replica in slot 7"]);
    check(&socket, &["get", "nodes", "vm"], 1, &["no node vm", "no agent has registered"]);
    fake.stop();
}

#[test]
fn a_node_that_is_not_there_is_an_error_unless_that_is_said_to_be_none() {
    let words = "there is no node gone; `wharf get nodes` lists all".to_owned();
    let fake = Fake::start(Script { refuses: Some((v1::Reason::NotFound, words)), ..Script::default() });
    check(&fake.socket(), &["node", "rm", "gone"], 1, &["there is no node gone"]);
    let again = wharf(&fake.socket(), &["node", "rm", "gone", "node/gone", "--ignore-not-found"]);
    assert_eq!(
        (again.code, again.stdout.as_str()),
        (0, "there is no node gone\nthere is no node gone\n"),
        "{again:#?}"
    );
    fake.stop();
}
