//! A disk that is full: nothing is written, everything else goes on, and it recovers by itself.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use proto::v1;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;
use tonic::{Code, Status};

use crate::{
    agent::Agent,
    cluster::{Cluster, leader},
    fixture::{Control, Home, Server, apply_of, declaration, eventually, generations, in_time},
};

/// A few segments of the log, and no more.
const SIZE: &str = "size=3m";

/// A file system of its own.
struct SmallDisk {
    path: PathBuf,
    /// Where it is not another's.
    folder: Option<TempDir>,
}

impl SmallDisk {
    fn new() -> SmallDisk {
        let folder = tempfile::Builder::new().prefix("wharf-disk-").tempdir().unwrap();
        let mut disk = SmallDisk::at(folder.path());
        disk.folder = Some(folder);
        disk
    }

    fn at(path: &Path) -> SmallDisk {
        fs::create_dir_all(path).unwrap();
        let options = std::ffi::CString::new(SIZE).unwrap();
        mount("tmpfs", path, "tmpfs", MountFlags::NOSUID, Some(options.as_c_str())).unwrap();
        SmallDisk { path: path.to_owned(), folder: None }
    }

    fn path(&self) -> &Path {
        &self.path
    }

    /// Takes all the room that is left.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = File::create(&path).unwrap();
        for size in [64 << 10, 4 << 10] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(&self.path, UnmountFlags::DETACH).unwrap();
    }
}

/// A service of about 50 kB.
fn large(name: &str) -> v1::ServiceDeclaration {
    let mut declared = declaration(name, "image: hello\nreplicas: 0");
    declared.annotations.insert("notes".to_owned(), "x".repeat(50_000));
    declared
}

async fn apply(control: &mut Control, name: &str) -> Result<(), Status> {
    in_time("an answer", control.apply(apply_of([large(name)]))).await.map(drop)
}

/// A kill must not lose what a stop keeps, so the end of this is a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_answers_reads_and_recovers() {
    let disk = SmallDisk::new();
    let server = Server::start_in(Home::at(disk.path())).await;
    let agent = Agent::start(&server, 1).await;
    let mut control = server.control().await;
    apply(&mut control, "before").await.unwrap();
    let filler = disk.fill();

    // There is room in the segment that was made already; then one write finds none for the next.
    let mut written = vec!["before".to_owned()];
    let stuck = loop {
        let name = format!("s{:02}", written.len());
        match apply(&mut control, &name).await {
            Ok(()) => written.push(name),
            Err(status) => break (name, status),
        }
        assert!(written.len() < 100, "the disk is never full");
    };
    let (stuck, status) = stuck;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    for words in ["the disk is full", "free some space", "look before you try again"] {
        assert!(status.message().contains(words), "{words:?} is not in {}", status.message());
    }
    let status = apply(&mut control, "later").await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("running services are not affected"), "{}", status.message());

    // Reads, dry runs and sessions go on.
    let names = |generations: Vec<(String, u64)>| -> Vec<String> {
        generations.into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(names(generations(&mut control).await), written);
    let dry = v1::ApplyRequest { dry_run: true, ..apply_of([large("later")]) };
    in_time("an answer", control.apply(dry)).await.unwrap();
    drop(agent);
    let _agent = Agent::start(&server, 1).await;

    fs::remove_file(filler).unwrap();
    eventually("it can be written again", || {
        let mut control = control.clone();
        async move { apply(&mut control, "later").await }
    })
    .await;
    // What was stuck was written then, as its user was told.
    written.extend(["later".to_owned(), stuck]);
    written.sort();
    assert_eq!(names(generations(&mut control).await), written);
    let server = server.restart().await;
    assert_eq!(names(generations(&mut server.control().await).await), written);
    server.stop().await;
}

/// About 16 kB.
fn relabelled(round: usize) -> v1::ChangeNodeRequest {
    let label = |number| (format!("label-{number}"), format!("{round}-{}", "x".repeat(240)));
    let set = (0..60).map(label).collect();
    let label = v1::change_node_request::Label { set, unset: Vec::new() };
    let change = Some(v1::change_node_request::Change::Label(label));
    v1::ChangeNodeRequest { node: "n1".to_owned(), change }
}

/// Then there is no leader, and why is not said by waiting for one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_disks_of_all_servers_are_full_each_says_whose() {
    let cluster = Cluster::of(1..=3);
    let disks: Vec<SmallDisk> = (1..=3).map(|member| SmallDisk::at(&cluster.home(member).data)).collect();
    let servers = cluster.start_three().await;
    drop(Agent::start(&servers[&leader(&servers).await], 1).await);
    let fillers: Vec<PathBuf> = disks.iter().map(SmallDisk::fill).collect();
    let round = std::sync::atomic::AtomicUsize::new(0);
    for server in servers.values() {
        eventually("a server says whose disk is full", || async {
            let round = round.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let refused = server.control().await.change_node(relabelled(round)).await.err();
            let message = refused.map(|status| status.message().to_owned()).unwrap_or_default();
            let words =
                ["server server-", ", in /", "the disk is full", "free some space in the data directory"];
            if words.iter().all(|word| message.contains(word)) { Ok(()) } else { Err(message) }
        })
        .await;
    }
    fillers.iter().for_each(|filler| fs::remove_file(filler).unwrap());
    eventually("writes go on", || async {
        let written = servers[&1].control().await.change_node(relabelled(0)).await;
        written.map_err(|status| status.message().to_owned())
    })
    .await;
}
