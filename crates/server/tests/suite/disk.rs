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
    fixture::{Control, Home, Server, apply_of, declaration, eventually, generations, in_time},
};

/// A few segments of the log, and no more.
const SIZE: &str = "size=3m";

/// A file system of its own.
struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    fn new() -> SmallDisk {
        let folder = tempfile::Builder::new().prefix("wharf-disk-").tempdir().unwrap();
        let options = std::ffi::CString::new(SIZE).unwrap();
        mount("tmpfs", folder.path(), "tmpfs", MountFlags::NOSUID, Some(options.as_c_str())).unwrap();
        SmallDisk { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
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
        unmount(self.folder.path(), UnmountFlags::DETACH).unwrap();
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
