//! What a server's folder says to someone who has taken the disk, and what the server needs to read it itself.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use consensus::Recovered;
use proto::v1;
use server::{
    keys::{Keys, KeysError, Unlock},
    log::Log,
    rescue::{self, RescueError},
};
use trust::seal::Passphrase;

use crate::{
    agent::Agent,
    fixture::{Home, Server, apply_of, declaration, generations},
    restarts::refuses,
};

const SECRET: &str = "hunter2-and-what-follows";

const NOWHERE: [&str; 0] = [];

async fn declare(server: &Server, name: &str) {
    let _agent = Agent::start(server, 1).await;
    let mut declared = declaration(name, "image: hello\nreplicas: 0");
    declared.annotations.insert("notes".to_owned(), SECRET.to_owned());
    server.control().await.apply(apply_of([declared])).await.unwrap();
}

async fn declared(server: &Server) -> Vec<String> {
    generations(&mut server.control().await).await.into_iter().map(|(name, _)| name).collect()
}

async fn rotate(server: &Server) -> u32 {
    let mut members = crate::cluster::members_of(server).await;
    members.rotate_data_key(v1::RotateDataKeyRequest {}).await.unwrap().into_inner().key
}

fn shows_secret(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let shows = |name: &String| {
        fs::read(folder.join(name)).unwrap().windows(SECRET.len()).any(|window| window == SECRET.as_bytes())
    };
    names.filter(shows).collect()
}

fn passphrase(text: &str) -> Unlock {
    Unlock::Passphrase(Arc::new(Passphrase::new(text.to_owned().into())))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_folder_is_encrypted_with_keys_that_only_its_owner_reads() {
    let server = Server::start().await;
    declare(&server, "first").await;
    assert_eq!(shows_secret(&server.home.data), NOWHERE);
    for name in ["data-keys", "data-keys.unlock"] {
        let mode = fs::metadata(server.home.data.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let server = server.restart().await;
    assert_eq!(declared(&server).await, ["first"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_before_opens_and_is_encrypted_from_then_on() {
    let home = Home::new();
    drop(Log::open(&home.data, || Recovered::bootstrap(7)).unwrap());
    let server = Server::start_in(home).await;
    declare(&server, "first").await;
    assert_eq!(shows_secret(&server.home.data), NOWHERE);
    let server = server.restart().await;
    assert_eq!(declared(&server).await, ["first"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_rotated_while_the_server_serves_and_forgotten_once_nothing_needs_it() {
    let server = Server::start().await;
    declare(&server, "first").await;
    assert_eq!(rotate(&server).await, 2);
    declare(&server, "second").await;
    let home = server.restart().await.stop().await;
    let open = || Keys::open(&home.data, cluster_of(&home), Unlock::Beside, true).unwrap();
    let ids = || open().ids().into_iter().map(|id| id.0).collect::<Vec<u32>>();
    assert_eq!(ids(), [1, 2], "the log needs both");
    let mut keys = open();
    keys.rotate().unwrap();
    keys.rotate().unwrap();
    drop(keys);
    let server = Server::start_in(home.clone()).await;
    assert_eq!(declared(&server).await, ["first", "second"]);
    assert_eq!(ids(), [1, 2, 4], "nothing was ever written with the third");
    assert_eq!(rotate(&server).await, 5);
}

fn cluster_of(home: &Home) -> model::ClusterId {
    fs::read_to_string(home.data.join("cluster")).unwrap().trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_keys_a_server_says_what_is_missing_and_makes_no_new_ones() {
    let server = Server::start().await;
    declare(&server, "first").await;
    let home = server.stop().await;
    let elsewhere = home.socket.with_file_name("elsewhere");
    for (name, why) in [
        ("data-keys", "is encrypted with keys from it: bring it back"),
        ("data-keys.unlock", "bring it back"),
    ] {
        fs::rename(home.data.join(name), &elsewhere).unwrap();
        let refused = refuses(home.config()).await;
        assert!(refused.contains(&home.data.join(name).display().to_string()), "{refused}");
        assert!(refused.contains(why), "{refused}");
        assert!(!home.data.join(name).exists());
        fs::rename(&elsewhere, home.data.join(name)).unwrap();
    }
    // A key file may lie anywhere, but not where others read it.
    fs::rename(home.data.join("data-keys.unlock"), &elsewhere).unwrap();
    let moved = home.unlock(Unlock::KeyFile(elsewhere.clone()));
    fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o640)).unwrap();
    let refused = refuses(moved.config()).await;
    assert!(refused.contains("mode 640") && refused.contains("chmod 600"), "{refused}");
    fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o600)).unwrap();
    let server = Server::start_in(moved).await;
    assert_eq!(declared(&server).await, ["first"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passphrase_locks_what_a_key_file_did_and_no_key_is_left_beside_the_log() {
    let server = Server::start().await;
    declare(&server, "first").await;
    let home = server.stop().await;
    let lock = |now, new| rescue::lock(&home.data, now, passphrase(new));
    let short = lock(Unlock::Beside, "too short").unwrap_err();
    assert!(matches!(short, RescueError::Keys { source: KeysError::Lock(_), .. }), "{short:?}");
    lock(Unlock::Beside, "correct horse battery").unwrap();
    assert!(!home.data.join("data-keys.unlock").exists());

    let refused = refuses(home.config()).await;
    assert!(refused.contains("locked with a passphrase, not with a key file"), "{refused}");
    let wrong = home.clone().unlock(passphrase("correct horse batteries"));
    let refused = refuses(wrong.config()).await;
    assert!(refused.contains("this is not the passphrase"), "{refused}");
    let server = Server::start_in(home.unlock(passphrase("correct horse battery"))).await;
    assert_eq!(declared(&server).await, ["first"]);
    assert_eq!(rotate(&server).await, 2);
    declare(&server, "second").await;
    let server = server.restart().await;
    assert_eq!(declared(&server).await, ["first", "second"]);
}
