//! Backups of a cluster that serves, and clusters that begin again: from a backup, or from one server that is left.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use model::{Level, MemberId, Timestamp};
use proto::v1::{self, backup_part::Part};
use server::{
    Error,
    keys::Unlock,
    rescue::{
        Itself, RescueError,
        backup::{self, Backup, ReadError, Writer},
        recover, restore,
    },
};
use trust::seal::{KeyFile, Lock, Unlock as Open, UnlockError};

use crate::{
    agent::Agent,
    cluster::{Cluster, leader, members_of, wait_for_voters, write_and_read},
    fixture::{Home, Server, apply_of, declaration, generations},
};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// As whoever asks for it gets it.
async fn taken(server: &Server) -> Backup {
    let mut parts = members_of(server).await.backup(v1::BackupRequest {}).await.unwrap().into_inner();
    let (mut cluster, mut state, mut ended) = (None, Vec::new(), false);
    while let Some(part) = parts.message().await.unwrap() {
        match part.part.unwrap() {
            Part::Begin(begin) => cluster = Some(model::ClusterId(begin.cluster)),
            Part::Data(data) => state.extend_from_slice(&data),
            Part::End(end) => ended = end.length == state.len() as u64,
        }
    }
    assert!(ended);
    Backup { cluster: cluster.unwrap(), taken_at: NOW, state: state.into() }
}

async fn declared(server: &Server) -> Vec<String> {
    generations(&mut server.control().await).await.into_iter().map(|(name, _)| name).collect()
}

fn name(number: usize) -> String {
    format!("s{number:04}")
}

async fn declare(server: &Server, name: &str) {
    let request = apply_of([declaration(name, "image: hello\nreplicas: 0")]);
    server.control().await.apply(request).await.unwrap();
}

fn itself(home: &Home) -> Itself {
    let (name, address) = ("again".parse().unwrap(), "127.0.0.1:7400".to_owned());
    Itself { name, address, trust_dir: home.data.join("trust") }
}

fn restored(backup: &Backup) -> Home {
    let home = Home::new();
    let restored = restore(&home.data, Unlock::Beside, backup, itself(&home), NOW).unwrap();
    assert!(!restored.takes_others, "it was a cluster of one host");
    home
}

/// What was answered before a backup was asked for is in it, and it is the state of one moment.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_of_one_moment_while_the_cluster_is_written_to() {
    let server = Arc::new(Server::start().await);
    let _agent = Agent::start(&server, 1).await;
    let (written, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let writes = tokio::spawn({
        let (server, written, stop) = (server.clone(), written.clone(), stop.clone());
        async move {
            while !stop.load(Ordering::Relaxed) {
                declare(&server, &name(written.load(Ordering::Relaxed))).await;
                written.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    for _ in 0..3 {
        let before = written.load(Ordering::Relaxed);
        crate::fixture::eventually("it is written to", || async {
            if written.load(Ordering::Relaxed) > before { Ok(()) } else { Err(before) }
        })
        .await;
        let acknowledged = written.load(Ordering::Relaxed);
        let copy = Server::start_in(restored(&taken(&server).await)).await;
        let found = declared(&copy).await;
        assert!(found.len() >= acknowledged, "{} of {acknowledged}", found.len());
        let expected: Vec<String> = (0..found.len()).map(name).collect();
        assert_eq!(found, expected, "none is missing before one that is there");
    }
    stop.store(true, Ordering::Relaxed);
    writes.await.unwrap();
}

fn small() -> Backup {
    Backup { cluster: model::ClusterId(5), taken_at: NOW, state: vec![7; 100].into() }
}

fn file(backup: &Backup, key: &KeyFile) -> Vec<u8> {
    let mut writer =
        Writer::begin(Vec::new(), backup.cluster, 3, backup.taken_at, Lock::KeyFile(key)).unwrap();
    backup.state.chunks(60).for_each(|data| writer.data(data).unwrap());
    writer.finish().unwrap()
}

#[test]
fn a_backup_file_is_read_with_its_key_and_refused_when_anything_of_it_is_changed() {
    let (key, other) = (KeyFile::make().unwrap(), KeyFile::make().unwrap());
    let bytes = file(&small(), &key);
    assert_eq!(backup::read(&bytes[..], Open::KeyFile(&key)).unwrap(), small());
    let refused = backup::read(&bytes[..], Open::KeyFile(&other)).unwrap_err();
    assert!(matches!(refused, ReadError::Unlock(UnlockError::OtherKeyFile { .. })), "{refused:?}");
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(backup::read(&flipped[..], Open::KeyFile(&key)).is_err(), "bit {bit}");
    }
    for length in 0..bytes.len() {
        assert!(backup::read(&bytes[..length], Open::KeyFile(&key)).is_err(), "{length} bytes");
    }
    let longer = [&bytes[..], b"x"].concat();
    assert!(matches!(backup::read(&longer[..], Open::KeyFile(&key)), Err(ReadError::Senseless(_))));
    // Two backups of the same cluster, locked with the same key file: their pieces do not fit each other.
    let (one, two) = (bytes, file(&small(), &key));
    let half = one.len() - 60;
    let mixed = [&one[..half], &two[half..]].concat();
    assert!(matches!(backup::read(&mixed[..], Open::KeyFile(&key)), Err(ReadError::Damaged { .. })));
}

/// Written by an earlier build: backups are read for ever. `UPDATE_GOLDENS=1` writes it only where there is none.
#[test]
fn a_backup_of_an_earlier_build_is_still_read() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/backup-1.txt");
    if !path.exists() && std::env::var_os("UPDATE_GOLDENS").is_some() {
        let key = KeyFile::make().unwrap();
        let line = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
        let bytes: String = file(&small(), &key).chunks(32).map(line).collect();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("{}{bytes}", key.encode().as_str())).unwrap();
    }
    let text = std::fs::read_to_string(path).unwrap();
    let (key, bytes) = text.split_once('\n').unwrap();
    let digits: Vec<u32> = bytes.chars().filter_map(|digit| digit.to_digit(16)).collect();
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect();
    let key = KeyFile::decode(key).unwrap();
    assert_eq!(backup::read(&bytes[..], Open::KeyFile(&key)).unwrap(), small());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_cluster_is_the_same_to_agents_and_gives_no_version_out_twice() {
    let server = Server::start().await;
    let agent = Agent::start(&server, 1).await;
    declare(&server, "web").await;
    let backup = taken(&server).await;
    declare(&server, "lost").await;
    let version = async |server: &Server, name: &str| {
        let status = server.control().await.status(crate::fixture::everything()).await.unwrap().into_inner();
        let services = status.services.into_iter().filter_map(|status| status.service);
        services.filter(|s| s.key.clone().unwrap().name == name).map(|s| s.version).next().unwrap()
    };
    let last = version(&server, "lost").await;
    drop(agent);
    drop(server);

    let home = restored(&backup);
    let again = restore(&home.data, Unlock::Beside, &backup, itself(&home), NOW).unwrap_err();
    assert!(matches!(again, RescueError::Taken(_)), "{again:?}");
    let cluster = std::fs::read_to_string(home.data.join("cluster")).unwrap();
    assert_eq!(cluster.trim(), backup.cluster.to_string());
    let server = Server::start_in(home).await;
    assert_eq!(declared(&server).await, ["web"]);
    let _agent = Agent::start(&server, 1).await;
    declare(&server, "after").await;
    assert!(version(&server, "after").await > last);
    let server = server.restart().await;
    assert_eq!(declared(&server).await, ["after", "web"]);
}

/// A cluster of three that was stopped: one server's home, which is recovered, and those of the others.
async fn lose_quorum(cluster: &Cluster, address: Option<String>) -> (u64, Home, Vec<Home>) {
    let mut servers = cluster.start_three().await;
    write_and_read(&servers, "first").await;
    let left = leader(&servers).await % 3 + 1;
    let in_use = recover(&servers[&left].home.data, Unlock::Beside, None, NOW).unwrap_err();
    assert!(matches!(in_use, RescueError::Log { .. }), "{in_use:?}");
    let survivor = servers.remove(&left).unwrap();
    let mut others = Vec::new();
    for server in servers.into_values() {
        others.push(server.stop().await);
    }
    let home = survivor.stop().await;
    let recovered = recover(&home.data, Unlock::Beside, address, NOW).unwrap();
    assert_eq!((recovered.member, recovered.gone.len()), (MemberId(left), 2), "{recovered:?}");
    (left, home, others)
}

async fn goes_on(server: &Server) {
    let _agent = Agent::start(server, 1).await;
    declare(server, "alone").await;
    assert_eq!(declared(server).await, ["alone", "first"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_that_is_left_goes_on_at_another_address_and_takes_others_in() {
    let cluster = Cluster::of(1..=5);
    // The fourth address was nobody's; the survivor moves there.
    let address = cluster.addresses[&4];
    let (left, mut home, _) = lose_quorum(&cluster, Some(address.to_string())).await;
    let remote = home.remote.as_mut().unwrap();
    (remote.listen, remote.advertise) = (address, address.to_string());
    let mut servers = BTreeMap::from([(left, Server::start_in(home).await)]);
    wait_for_voters(&servers, &[left]).await;
    goes_on(&servers[&left]).await;

    let request = v1::AddMemberRequest {
        id: 5,
        name: "server-5".to_owned(),
        address: cluster.addresses[&5].to_string(),
        part: v1::MemberPart::Voter.into(),
        level: Level::NEWEST.0,
    };
    members_of(&servers[&left]).await.add_member(request).await.unwrap();
    let mut fifth = cluster.home(5);
    fifth.remote.as_mut().unwrap().contacts = BTreeMap::from([(left, address.to_string())]);
    servers.insert(5, Server::start_in(fifth).await);
    wait_for_voters(&servers, &[left, 5]).await;
    assert_eq!(declared(&servers[&5]).await, ["alone", "first"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_given_up_hears_so_when_it_comes_back_and_stops() {
    let cluster = Cluster::of(1..=3);
    let (left, home, mut others) = lose_quorum(&cluster, None).await;
    let alone = Server::start_in(home).await;
    goes_on(&alone).await;
    let ended = Server::start_in(others.remove(0)).await.ended_by_itself().await;
    assert!(matches!(&ended, Error::Removed { .. }), "{ended:?}");
    wait_for_voters(&BTreeMap::from([(left, alone.restart().await)]), &[left]).await;
}

#[test]
fn nothing_is_made_where_there_is_nothing_to_recover() {
    let dir = tempfile::tempdir().unwrap();
    let refused = recover(dir.path(), Unlock::Beside, None, NOW).unwrap_err();
    assert!(matches!(refused, RescueError::NoLog(_)), "{refused:?}");
    let left: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"]);
}
