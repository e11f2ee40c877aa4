//! What is on disk, and who may use it.

use std::{fs, path::PathBuf};

use proto::v1;

use crate::{
    agent::Agent,
    fixture::{Home, Server, apply_of, declaration, eventually, everything, generations, key},
};

/// What a server says that cannot start.
pub(crate) async fn refuses(config: server::Config) -> String {
    let started = server::run(config, std::future::pending());
    let ended = crate::fixture::in_time("it ends at once", started).await;
    server::chain::chain(&ended.expect_err("it does not start"))
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_acknowledged_is_there_after_a_restart() {
    let mut server = Server::start().await;
    let mut expected = Vec::new();
    for round in 0..3 {
        let _agent = Agent::start(&server, 1).await;
        let mut control = server.control().await;
        for number in 0..20 {
            let name = format!("s{round}x{number}");
            control.apply(apply_of([declaration(&name, "image: hello\nreplicas: 1")])).await.unwrap();
            let scale = v1::ScaleRequest { service: Some(key(&name)), replicas: 2 };
            let scaled = control.scale(scale).await.unwrap().into_inner();
            expected.push((name, scaled.generation));
        }
        let mut all = expected.clone();
        all.sort();
        eventually("all replicas are decided", || async {
            let status = server.control().await.status(everything()).await.unwrap().into_inner();
            let lacks = status.services.iter().find(|service| service.replicas.len() != 2);
            lacks.map_or(Ok(()), |service| Err(format!("{service:?}")))
        })
        .await;
        server = server.restart().await;
        assert_eq!(generations(&mut server.control().await).await, all);
    }
    // What was decided is not decided again, also before any agent is back.
    let status = server.control().await.status(everything()).await.unwrap().into_inner();
    assert!(status.services.iter().all(|service| service.replicas.len() == 2));
    assert_eq!(status.nodes.len(), 1);
}

/// A write that was in flight when the server was told to stop is answered, and holds.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_while_the_server_stops_is_answered_as_it_is() {
    let server = Server::start().await;
    let _agent = Agent::start(&server, 1).await;
    let mut asked = Vec::new();
    for number in 0..200 {
        let mut control = server.control().await;
        let name = format!("s{number}");
        let request = apply_of([declaration(&name, "image: hello")]);
        asked.push((name, tokio::spawn(async move { control.apply(request).await })));
    }
    let server = server.restart().await;
    let known: Vec<String> =
        generations(&mut server.control().await).await.into_iter().map(|(name, _)| name).collect();
    for (name, answer) in asked {
        if crate::fixture::in_time("an answer", answer).await.unwrap().is_ok() {
            assert!(known.contains(&name), "{name} was acknowledged");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_do_not_share_a_data_directory() {
    let server = Server::start().await;
    let other = server::Config { socket: server.home.socket.with_extension("other"), ..server.home.config() };
    let refused = refuses(other).await;
    let holder = std::process::id().to_string();
    assert!(refused.contains("is in use by another server") && refused.contains(&holder), "{refused}");
    assert!(generations(&mut server.control().await).await.is_empty(), "the first goes on");
}

/// The segment with the newest entries.
fn newest_segment(home: &Home) -> PathBuf {
    let names = fs::read_dir(&home.data).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.extension().is_some_and(|extension| extension == "wal")).max().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_named_and_not_touched() {
    let server = Server::start().await;
    let _agent = Agent::start(&server, 1).await;
    server.control().await.apply(apply_of([declaration("web", "image: hello")])).await.unwrap();
    let home = server.stop().await;
    let segment = newest_segment(&home);
    let mut bytes = fs::read(&segment).unwrap();
    // In the middle of what is written: the services that were acknowledged.
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let flipped = written / 2;
    bytes[flipped] ^= 0x40;
    fs::write(&segment, &bytes).unwrap();

    let refused = refuses(home.config()).await;
    let name = segment.file_name().unwrap().to_string_lossy().into_owned();
    for words in [&*home.data.to_string_lossy(), &name, &format!("byte {}", flipped / 512 * 512), "Repair"] {
        assert!(refused.contains(words), "{words:?} is not in {refused:?}");
    }
    assert_eq!(fs::read(&segment).unwrap(), bytes, "it was changed");

    // The disk was mended: all is there.
    bytes[flipped] ^= 0x40;
    fs::write(&segment, &bytes).unwrap();
    let server = Server::start_in(home).await;
    assert_eq!(generations(&mut server.control().await).await, [("web".to_owned(), 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_was_torn_is_cut_and_the_rest_is_there() {
    let server = Server::start().await;
    let _agent = Agent::start(&server, 1).await;
    let mut control = server.control().await;
    for name in ["db", "web"] {
        control.apply(apply_of([declaration(name, "image: hello\nreplicas: 0")])).await.unwrap();
    }
    let home = server.stop().await;
    // As a crash leaves it that kept nothing of the last sector.
    let segment = newest_segment(&home);
    let mut bytes = fs::read(&segment).unwrap();
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap() / 512 * 512;
    bytes[last..last + 512].fill(0);
    fs::write(&segment, &bytes).unwrap();
    let server = Server::start_in(home).await;
    let there = generations(&mut server.control().await).await;
    assert!(there.contains(&("db".to_owned(), 1)), "{there:?}");
}

/// Whoever lost a log is not to have an empty cluster that agents take for theirs.
#[tokio::test(flavor = "multi_thread")]
async fn no_log_is_begun_where_one_was() {
    let home = Server::start().await.stop().await;
    let cluster = fs::read_to_string(home.data.join("cluster")).unwrap();
    for file in fs::read_dir(&home.data).unwrap() {
        let file = file.unwrap();
        if file.file_name() != "cluster" {
            fs::remove_file(file.path()).unwrap();
        }
    }
    let said = refuses(home.config()).await;
    assert!(said.contains(cluster.trim()) && said.contains("its log is gone"), "{said}");
    let said = refuses(home.config()).await;
    assert!(said.contains("Nothing was changed"), "also the second time: {said}");
    // As it says.
    fs::remove_file(home.data.join("cluster")).unwrap();
    let server = Server::start_in(home).await;
    assert!(!server.home.data.join("beginning").exists());
    assert_ne!(fs::read_to_string(server.home.data.join("cluster")).unwrap(), cluster);
    // A first start that was cut off goes on.
    let home = server.stop().await;
    for file in fs::read_dir(&home.data).unwrap() {
        let path = file.unwrap().path();
        if !path.ends_with("cluster") && !path.file_name().unwrap().to_string_lossy().contains("key") {
            fs::remove_file(path).unwrap();
        }
    }
    fs::write(home.data.join("beginning"), "").unwrap();
    Server::start_in(home).await;
}
