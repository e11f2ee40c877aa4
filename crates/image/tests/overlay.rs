//! Whiteouts and opaque marks as the kernel's own overlayfs sees them.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use proptest::prelude::*;
use support::{Home, Mount, Tar, home, load};

/// The files of an image as a container would see them: path to content.
fn merged(home: &Home, layers: &[Vec<u8>], id: &str) -> BTreeMap<String, String> {
    let image = load(home, layers);
    let prepared = home.store.prepare(&image.digest).unwrap();
    let snapshot = home.store.create_snapshot(id).unwrap();
    let at = home.path(&format!("mount-{id}"));
    let mount = Mount::overlay(&prepared.layers, &snapshot.upper, &snapshot.work, at.clone());
    let mut found = BTreeMap::new();
    let mut waiting = vec![at.clone()];
    while let Some(dir) = waiting.pop() {
        for item in fs::read_dir(&dir).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.exists() {
                // A whiteout that hides nothing is listed by the kernel where it has nothing to merge, and is still not there.
                let name = path.strip_prefix(&at).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    drop(mount);
    assert!(home.store.remove_snapshot(id).unwrap());
    found
}

fn names(found: &BTreeMap<String, String>) -> Vec<&str> {
    found.keys().map(String::as_str).collect()
}

#[test]
fn whiteouts_hide_what_is_below_and_nothing_else() {
    let home = home();
    let bottom =
        || Tar::new().dir("d").file("d/a", "1").file("d/b", "1").file("e/c", "1").file("f", "1").end();
    let cases: [(&str, Tar, &[&str]); 9] = [
        ("file", Tar::new().file("d/.wh.a", ""), &["d/b", "e/c", "f"]),
        ("directory", Tar::new().file(".wh.d", ""), &["e/c", "f"]),
        ("missing", Tar::new().file("d/.wh.never-there", ""), &["d/a", "d/b", "e/c", "f"]),
        (
            "opaque-after",
            Tar::new().dir("d").file("d/new", "2").file("d/.wh..wh..opq", ""),
            &["d/new", "e/c", "f"],
        ),
        (
            "opaque-before",
            Tar::new().dir("d").file("d/.wh..wh..opq", "").file("d/new", "2"),
            &["d/new", "e/c", "f"],
        ),
        ("opaque-root", Tar::new().file(".wh..wh..opq", "").file("only", "2"), &["only"]),
        (
            "whiteout-then-dir",
            Tar::new().file(".wh.d", "").dir("d").file("d/new", "2"),
            &["d/new", "e/c", "f"],
        ),
        (
            "dir-then-whiteout",
            Tar::new().dir("d").file("d/new", "2").file(".wh.d", ""),
            &["d/new", "e/c", "f"],
        ),
        ("whiteout-then-implied", Tar::new().file(".wh.d", "").file("d/new", "2"), &["d/new", "e/c", "f"]),
    ];
    for (id, top, expected) in cases {
        assert_eq!(names(&merged(&home, &[bottom(), top.end()], id)), expected, "{id}");
    }
    // A file and its own whiteout in one layer: the file is there, in either order.
    for (id, top) in [
        ("file-then-whiteout", Tar::new().file("f", "2").file(".wh.f", "")),
        ("whiteout-then-file", Tar::new().file(".wh.f", "").file("f", "2")),
    ] {
        assert_eq!(merged(&home, &[bottom(), top.end()], id)["f"], "2", "{id}");
    }
    // Hidden in the middle, made again on top.
    let middle = Tar::new().file(".wh.d", "").end();
    let top = Tar::new().file("d/z", "3").end();
    assert_eq!(names(&merged(&home, &[bottom(), middle, top], "middle")), ["d/z", "e/c", "f"]);
}

/// One thing that a layer says.
#[derive(Clone, Debug)]
enum Saying {
    File(String, u32),
    Whiteout(String),
    Opaque(String),
}

fn saying() -> impl Strategy<Value = Saying> {
    let dir = "[ab](/[ab])?";
    prop_oneof![
        3 => (dir, 0..1000_u32).prop_map(|(dir, n)| Saying::File(format!("{dir}/file{}", n % 3), n)),
        2 => (dir, 0..3_u32).prop_map(|(dir, n)| Saying::Whiteout(format!("{dir}/file{n}"))),
        1 => dir.prop_map(Saying::Whiteout),
        1 => dir.prop_map(Saying::Opaque),
    ]
}

fn tar(layer: &[Saying]) -> Vec<u8> {
    let tar = layer.iter().fold(Tar::new(), |tar, saying| match saying {
        Saying::File(path, n) => tar.file(path, &n.to_string()),
        Saying::Whiteout(path) => {
            let (dir, name) = path.rsplit_once('/').map_or(("", path.as_str()), |(dir, name)| (dir, name));
            tar.file(&format!("{dir}/.wh.{name}"), "")
        }
        Saying::Opaque(dir) => tar.file(&format!("{dir}/.wh..wh..opq"), ""),
    });
    tar.end()
}

/// The rules of the OCI image spec, written down a second time, as slowly and plainly as possible: first everything that
/// a layer hides is taken away from what is below, then everything that it brings is added.
fn by_the_rules(layers: &[Vec<Saying>]) -> BTreeMap<String, String> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for layer in layers {
        let mut hidden: BTreeSet<String> = BTreeSet::new();
        for saying in layer {
            match saying {
                Saying::Whiteout(path) | Saying::Opaque(path) => {
                    hidden.insert(path.clone());
                }
                Saying::File(..) => {}
            }
        }
        files.retain(|path, _| !hidden.iter().any(|h| path == h || path.starts_with(&format!("{h}/"))));
        for saying in layer {
            if let Saying::File(path, n) = saying {
                files.insert(path.clone(), n.to_string());
            }
        }
    }
    files
}

#[test]
fn equal_layers_are_where_the_upper_one_is() {
    let home = home();
    let repeated = || Tar::new().dir("d").file("d/a", "1").file("d/.wh.b", "").file("f", "1").end();
    let between =
        Tar::new().dir("d").file("d/a", "2").file("d/b", "2").file("d/c", "2").file(".wh.f", "").end();
    let found = merged(&home, &[repeated(), between, repeated()], "r");
    let expected = [("d/a", "1"), ("d/c", "2"), ("f", "1")];
    assert_eq!(found, expected.map(|(name, text)| (name.to_owned(), text.to_owned())).into());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_kernel_sees_what_the_spec_says(
        layers in proptest::collection::vec(proptest::collection::vec(saying(), 1..7), 1..5),
    ) {
        let home = home();
        let tars: Vec<Vec<u8>> = layers.iter().map(|layer| tar(layer)).collect();
        prop_assert_eq!(merged(&home, &tars, "c"), by_the_rules(&layers));
    }
}
