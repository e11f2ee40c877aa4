//! Kill -9 at random moments of loading and unpacking, a full disk, and several callers at once.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use image::{Digest, Error, Store};
use support::{Home, Layout, Mount, Tar, chain, home, listing, load};

/// Names the directory that the child of the test works in.
const CHILD: &str = "WHARF_IMAGE_CRASH_CHILD";

/// Enough files that unpacking takes a while, and a second layer that hides some of them.
fn layers() -> Vec<Vec<u8>> {
    let text = "some content of a file\n".repeat(100);
    let bottom = (0..600).fold(Tar::new(), |tar, i| tar.file(&format!("d{}/f{i}", i % 20), &text));
    let top = (0..100).fold(Tar::new(), |tar, i| tar.file(&format!("d{}/.wh.f{i}", i % 20), ""));
    vec![bottom.end(), top.end()]
}

/// Not a test of its own: what the killed process does, over and over.
#[test]
fn child_that_loads_and_unpacks() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let dir = Path::new(&dir);
    let store = Store::open(&dir.join("store")).unwrap();
    let mut out = std::io::stdout();
    writeln!(out, "\nopen").unwrap();
    loop {
        let image =
            store.load_archive(File::open(dir.join("archive")).unwrap(), Some("app:1")).unwrap().remove(0);
        store.prepare(&image.digest).unwrap();
        let _ = store.create_snapshot("one").unwrap();
        store.remove_snapshot("one").unwrap();
        store.remove("app:1").unwrap();
        store.collect_garbage(&BTreeSet::new()).unwrap();
    }
}

fn spawn_child(dir: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_loads_and_unpacks", "--nocapture"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "open"), "the child did not open the store");
    child
}

#[test]
fn killed_at_any_moment_the_store_opens_and_no_half_layer_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::simple(dir.path().join("layout"), &layers());
    let mut archive = Tar::new();
    for name in listing(&layout.dir).keys().filter(|name| layout.dir.join(name).is_file()) {
        archive = archive.member(b'0', name, "", 0o644, &fs::read(layout.dir.join(name)).unwrap());
    }
    fs::write(dir.path().join("archive"), archive.end()).unwrap();
    // What a store that was never disturbed has.
    let calm = home();
    let image = calm.store.load_layout(&layout.dir, Some("app:1")).unwrap().remove(0);
    let expected: Vec<_> =
        calm.store.prepare(&image.digest).unwrap().layers.iter().map(|l| listing(l)).collect();
    let mut seen_half_made = 0;
    for round in 0..24_u64 {
        let mut child = spawn_child(dir.path());
        // A different moment each time, spread over a round of the child.
        std::thread::sleep(Duration::from_micros(round * 7_919 % 211_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let root = dir.path().join("store");
        seen_half_made += usize::from(fs::read_dir(root.join("tmp")).unwrap().next().is_some());
        let found = fs::read_dir(root.join("layers")).unwrap();
        for layer in found.map(|entry| entry.unwrap().path()) {
            assert!(expected.contains(&listing(&layer)), "round {round}: half a layer is visible");
        }
        let store = Store::open(&root).unwrap();
        assert!(listing(&root.join("tmp")).is_empty());
        // Whatever the index lists, works; and everything can be done again.
        if let Some(digest) = store.resolve("app:1").unwrap() {
            store.prepare(&digest).unwrap();
        }
        store.load_archive(File::open(dir.path().join("archive")).unwrap(), Some("app:1")).unwrap();
        let layers: Vec<_> =
            store.prepare(&image.digest).unwrap().layers.iter().map(|l| listing(l)).collect();
        assert_eq!(layers, expected, "round {round}");
        store.remove("app:1").unwrap();
        if let Some(snapshot) = store.snapshots().unwrap().first() {
            assert!(store.remove_snapshot(snapshot).unwrap());
        }
        store.collect_garbage(&BTreeSet::new()).unwrap();
        wait_until_empty(&root.join("trash"));
    }
    assert!(seen_half_made > 0, "no kill met the store in the middle of something");
}

fn wait_until_empty(dir: &Path) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let left: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{} still holds {left:?}", dir.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_full_disk_is_said_clearly_and_leaves_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let mount = Mount::tmpfs(dir.path().join("small"), "6m");
    let store = Store::open(&mount.0.join("store")).unwrap();
    let big = Tar::new().file("a", "1").file("dir/big", &"x".repeat(4 << 20)).end();
    let layout = Layout::simple(dir.path().join("layout"), &[big]);
    let image = store.load_layout(&layout.dir, None).unwrap().remove(0);
    let layer = Digest::of(&fs::read(largest(&layout.dir)).unwrap());
    let full = "(the disk is full and nothing was kept: free space or remove images, then try again): No space left on \
                device (os error 28)";
    let error = chain(&store.prepare(&image.digest).unwrap_err());
    let expected =
        format!("image test:1: cannot unpack layer {layer}: entry \"dir/big\": cannot write a file {full}");
    assert_eq!(error, expected);
    let another =
        Layout::simple(dir.path().join("another"), &[Tar::new().file("b", &"y".repeat(4 << 20)).end()]);
    let error = chain(&store.load_layout(&another.dir, Some("another")).unwrap_err());
    assert!(error.starts_with("cannot write ") && error.ends_with(full), "{error}");
    // Small things still work, and nothing of the failures takes space.
    wait_until_empty(&mount.0.join("store/trash"));
    assert!(
        listing(&mount.0.join("store/tmp")).is_empty() && listing(&mount.0.join("store/layers")).is_empty()
    );
    assert_eq!(store.list().unwrap().len(), 1);
    let small = Layout::simple(dir.path().join("small-layout"), &[Tar::new().file("c", "z").end()]);
    let image = store.load_layout(&small.dir, Some("small")).unwrap().remove(0);
    store.prepare(&image.digest).unwrap();
    drop(store);
    assert_eq!(Store::open(&mount.0.join("store")).unwrap().list().unwrap().len(), 2);
}

fn largest(layout: &Path) -> std::path::PathBuf {
    let blobs = fs::read_dir(layout.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
    blobs.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

#[test]
fn many_callers_unpack_a_layer_once() {
    let home = home();
    let image = load(&home, &layers());
    let barrier = Barrier::new(8);
    let inodes: BTreeSet<Vec<u64>> = std::thread::scope(|scope| {
        let caller = || {
            barrier.wait();
            let prepared = home.store.clone().prepare(&image.digest).unwrap();
            let inode =
                |path: &std::path::PathBuf| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
            prepared.layers.iter().map(inode).collect::<Vec<_>>()
        };
        let callers: Vec<_> = (0..8).map(|_| scope.spawn(caller)).collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    assert_eq!(inodes.len(), 1);
    // Had anybody unpacked a second time, what is left of it would lie here.
    assert!(listing(&home.path("store/tmp")).is_empty());
}

#[test]
fn collecting_garbage_beside_loading_and_preparing_takes_nothing_away() {
    let home = home();
    let layout = Layout::simple(home.path("layout"), &layers());
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            for _ in 0..10 {
                let image = home.store.load_layout(&layout.dir, Some("app")).unwrap().remove(0);
                let prepared = home.store.prepare(&image.digest).unwrap();
                home.store.remove("app").unwrap();
                // Nameless now, but held.
                home.store.collect_garbage(&BTreeSet::new()).unwrap();
                assert!(prepared.layers.iter().all(|layer| layer.join("d0").is_dir()));
            }
        });
        while !worker.is_finished() {
            home.store.collect_garbage(&BTreeSet::new()).unwrap();
        }
        worker.join().unwrap();
    });
}

#[test]
fn one_process_at_a_time() {
    let home = home();
    let root = home.path("store");
    let error = Store::open(&root).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }));
    let root = root.canonicalize().unwrap();
    assert_eq!(
        chain(&error),
        format!(
            "the image store {} is in use by process {}; stop that one, or give this one another directory",
            root.display(),
            std::process::id()
        )
    );
    let clone = home.store.clone();
    drop(home.store);
    assert!(Store::open(&root).is_err(), "a clone keeps the store open");
    drop(clone);
    assert!(Store::open(&root).is_ok());
}

#[test]
fn snapshots_are_made_once_and_removed_at_once() {
    let home: Home = home();
    let store = &home.store;
    let snapshot = store.create_snapshot("default-web-1.main").unwrap();
    assert_eq!(listing(snapshot.upper.parent().unwrap())["upper"], "755 0:0 dir");
    fs::create_dir_all(snapshot.upper.join("deep/er")).unwrap();
    assert_eq!(
        chain(&store.create_snapshot("default-web-1.main").unwrap_err()),
        "snapshot \"default-web-1.main\" exists already; remove it before making a new one"
    );
    assert_eq!(store.snapshot("default-web-1.main").unwrap(), Some(snapshot));
    assert_eq!(store.snapshots().unwrap(), ["default-web-1.main"]);
    assert!(store.remove_snapshot("default-web-1.main").unwrap());
    assert!(!store.remove_snapshot("default-web-1.main").unwrap());
    assert_eq!(store.snapshot("default-web-1.main").unwrap(), None);
    wait_until_empty(&home.path("store/trash"));
    for id in ["", "..", "a/b", ".hidden", "a:b", "a,b", &"x".repeat(201)] {
        assert!(matches!(store.create_snapshot(id), Err(Error::SnapshotId(_))), "{id:?}");
        assert!(matches!(store.remove_snapshot(id), Err(Error::SnapshotId(_))), "{id:?}");
    }
}
