//! The folder on a disk that crashes between any two steps and keeps whatever a real one may keep; and on the host's.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::{Arc, Mutex, MutexGuard},
};

use model::{ClusterId, HostRole, NodeId, Timestamp};
use zeroize::Zeroizing;

use super::*;
use crate::{
    authority::Authority,
    validity::{AUTHORITY_LIFETIME, NODE_LIFETIME},
};

const NOW: Timestamp = Timestamp(1_790_000_000_000);

fn authority() -> Authority {
    Authority::make(ClusterId(1), NOW, AUTHORITY_LIFETIME).unwrap()
}

fn certificate(authority: &Authority, key: &NodeKey) -> NodeCertificate {
    let identity = Identity { cluster: ClusterId(1), role: HostRole::Agent, node: NodeId(1) };
    authority.sign(&key.request().unwrap(), identity, NOW, NODE_LIFETIME).unwrap()
}

/// Joins, or renews: the same steps.
fn renew(folder: &IdentityFolder, authority: &Authority) -> Result<Credentials, FolderError> {
    if folder.trust()?.is_none() {
        folder.believe(&Trust::new(authority.certificate().clone()))?;
    }
    let key = folder.next_key()?;
    folder.install(certificate(authority, &key))
}

/// A file that a name leads to. What was written and not synced may be there after a crash, or half of it, or nothing.
#[derive(Clone, Debug, Default)]
struct Content {
    written: String,
    synced: bool,
}

/// What each name leads to.
type Names = BTreeMap<String, usize>;

/// A directory before a crash: what its names are for now, and what they are for on the disk.
#[derive(Clone, Debug, Default)]
struct State {
    files: Vec<Content>,
    names: Names,
    synced: Names,
    /// Since the names were synced: what each step made of them. After a crash any of these may be there, or not.
    unsynced: Vec<Vec<(String, Option<usize>)>>,
    steps_left: Option<usize>,
}

/// What a crash leaves of contents that were not synced.
#[derive(Clone, Copy, Debug)]
enum Unsynced {
    Lost,
    Half,
    Kept,
}

#[derive(Clone, Debug, Default)]
struct CrashDisk(Arc<Mutex<State>>);

impl CrashDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The directory, if the machine has not crashed before this step.
    fn step(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        match &mut state.steps_left {
            Some(0) => return Err(io::Error::other("crashed")),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(state)
    }

    fn folder(&self) -> IdentityFolder {
        IdentityFolder { path: PathBuf::from("/crash"), disk: Box::new(self.clone()) }
    }

    fn crash_after(&self, steps: usize) {
        self.state().steps_left = Some(steps);
    }

    /// Every disk that a host may find when it starts again.
    fn remains(&self) -> Vec<CrashDisk> {
        let state = self.state();
        let mut found = Vec::new();
        for kept in 0..1_usize << state.unsynced.len() {
            let names = state.names_after_crash(kept);
            for unsynced in [Unsynced::Lost, Unsynced::Half, Unsynced::Kept] {
                let files = state.files.iter().map(|file| after_crash(file, unsynced)).collect();
                let (names, synced) = (names.clone(), names.clone());
                let left = State { files, names, synced, ..State::default() };
                found.push(CrashDisk(Arc::new(Mutex::new(left))));
            }
        }
        found
    }
}

fn after_crash(file: &Content, unsynced: Unsynced) -> Content {
    let len = match unsynced {
        _ if file.synced => file.written.len(),
        Unsynced::Lost => 0,
        Unsynced::Half => file.written.len() / 2,
        Unsynced::Kept => file.written.len(),
    };
    Content { written: file.written[..len].to_owned(), synced: true }
}

impl State {
    fn change(&mut self, changes: Vec<(String, Option<usize>)>) {
        apply(&mut self.names, &changes);
        self.unsynced.push(changes);
    }

    /// With those of the steps whose bit is set in `kept`.
    fn names_after_crash(&self, kept: usize) -> Names {
        let mut names = self.synced.clone();
        for (step, changes) in self.unsynced.iter().enumerate() {
            if kept >> step & 1 == 1 {
                apply(&mut names, changes);
            }
        }
        names
    }
}

fn apply(names: &mut Names, changes: &[(String, Option<usize>)]) {
    for (name, file) in changes {
        match file {
            Some(file) => names.insert(name.clone(), *file),
            None => names.remove(name),
        };
    }
}

impl Disk for CrashDisk {
    fn read(&self, name: &str) -> io::Result<Option<Zeroizing<String>>> {
        let state = self.state();
        Ok(state.names.get(name).map(|&file| Zeroizing::new(state.files[file].written.clone())))
    }

    fn mode(&self, name: &str) -> io::Result<Option<u32>> {
        Ok(self.state().names.get(name).map(|_| 0o600))
    }

    fn create(&self, name: &str, text: &str, _readers: Readers) -> io::Result<()> {
        let mut state = self.step()?;
        let file = state.files.len();
        state.files.push(Content { written: text.to_owned(), synced: false });
        state.change(vec![(name.to_owned(), Some(file))]);
        Ok(())
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let mut state = self.step()?;
        let file = state.names[name];
        state.files[file].synced = true;
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.step()?;
        let file = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.change(vec![(from.to_owned(), None), (to.to_owned(), Some(file))]);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.step()?;
        state.synced = state.names.clone();
        state.unsynced.clear();
        Ok(())
    }
}

/// Crashes `work` at each of its steps, on what `start` leaves, and shows every possible remainder to `check`. The number
/// of steps.
fn crash_everywhere(
    start: impl Fn() -> CrashDisk,
    work: impl Fn(&IdentityFolder) -> Result<Credentials, FolderError>,
    check: impl Fn(&IdentityFolder),
) -> usize {
    for steps in 0.. {
        let disk = start();
        disk.crash_after(steps);
        let done = work(&disk.folder()).is_ok();
        for left in disk.remains() {
            check(&left.folder());
        }
        if done {
            return steps;
        }
    }
    unreachable!("work that never ends")
}

#[test]
fn a_join_that_is_cut_off_anywhere_is_taken_up() {
    let authority = authority();
    let steps = crash_everywhere(
        CrashDisk::default,
        |folder| renew(folder, &authority),
        |folder| {
            // Either the host joined or it did not; both go on from here.
            folder.load().unwrap();
            let renewed = renew(folder, &authority).unwrap();
            let loaded = folder.load().unwrap().unwrap();
            assert_eq!(loaded.credentials.certificate(), renewed.certificate());
        },
    );
    assert!(steps > 10, "{steps} steps");
}

#[test]
fn a_renewal_that_is_cut_off_anywhere_leaves_a_usable_pair() {
    let authority = authority();
    let joined = || {
        let disk = CrashDisk::default();
        renew(&disk.folder(), &authority).unwrap();
        disk
    };
    let steps = crash_everywhere(
        joined,
        |folder| renew(folder, &authority),
        |folder| {
            // `Credentials` are a pair by construction.
            let first = folder.load().unwrap().unwrap();
            let again = folder.load().unwrap().unwrap();
            assert_eq!(first.credentials.certificate(), again.credentials.certificate());
            let renewed = renew(folder, &authority).unwrap();
            assert!(renewed.certificate() != first.credentials.certificate());
        },
    );
    assert!(steps > 8, "{steps} steps");
}

#[test]
fn what_was_installed_is_not_lost() {
    let authority = authority();
    let disk = CrashDisk::default();
    let installed = renew(&disk.folder(), &authority).unwrap();
    for left in disk.remains() {
        let loaded = left.folder().load().unwrap().unwrap();
        assert_eq!(loaded.credentials.certificate(), installed.certificate());
    }
}

/// A renewal that was cut off before its certificate came asks again with the same key.
#[test]
fn the_next_key_is_kept_until_it_is_used() {
    let disk = CrashDisk::default();
    let first = disk.folder().next_key().unwrap();
    for left in disk.remains() {
        assert_eq!(left.folder().next_key().unwrap().public(), first.public());
    }
}

#[test]
fn files_on_the_host_have_the_readers_they_should() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/identity");
    let folder = IdentityFolder::open(&path).unwrap();
    assert!(folder.load().unwrap().is_none());
    let authority = authority();
    renew(&folder, &authority).unwrap();
    let renewed = renew(&folder, &authority).unwrap();
    let loaded = IdentityFolder::open(&path).unwrap().load().unwrap().unwrap();
    assert_eq!(loaded.credentials.certificate(), renewed.certificate());

    let mut seen: Vec<(String, u32)> =
        fs::read_dir(&path).unwrap().map(|entry| mode(&entry.unwrap().path())).collect();
    seen.sort();
    let expected = [("node.crt", 0o644), ("node.key", 0o600), ("trust.pem", 0o644)];
    assert_eq!(seen, expected.map(|(name, mode)| (name.to_owned(), mode)));
    assert_eq!(mode(&path).1, 0o700);
}

fn mode(path: &Path) -> (String, u32) {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    (name, fs::metadata(path).unwrap().permissions().mode() & 0o777)
}

#[test]
fn what_is_wrong_with_a_folder_is_told_with_what_to_do() {
    let authority = authority();
    let told = |damage: &dyn Fn(&Path)| {
        let dir = tempfile::tempdir().unwrap();
        let folder = IdentityFolder::open(dir.path()).unwrap();
        renew(&folder, &authority).unwrap();
        damage(dir.path());
        let error = folder.load().unwrap_err().to_string();
        error.replace(&dir.path().display().to_string(), "DIR")
    };
    let remedy = "restore it from a backup, or remove the folder and join again with a token";

    let exposed = |dir: &Path| fs::set_permissions(dir.join(KEY), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(told(&exposed).starts_with("DIR/node.key can be read by other users (mode 644)"));

    let other_key =
        |dir: &Path| fs::write(dir.join(KEY), NodeKey::generate().unwrap().to_pem().as_bytes()).unwrap();
    let other_keys = |dir: &Path| {
        other_key(dir);
        fs::copy(dir.join(KEY), dir.join(NEXT_KEY)).unwrap();
    };
    for mismatch in [told(&other_key), told(&other_keys)] {
        assert!(
            mismatch.contains("in DIR do not belong together; restore both from one backup"),
            "{mismatch}"
        );
    }

    for (name, whole) in [(KEY, false), (CERTIFICATE, false), (TRUST, false), (KEY, true), (TRUST, true)] {
        let damage = |dir: &Path| {
            let path = dir.join(name);
            if whole {
                return fs::remove_file(path).unwrap();
            }
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, &text[..text.len() / 2]).unwrap();
        };
        let is = if whole { "missing" } else { "damaged" };
        assert_eq!(told(&damage), format!("DIR/{name} is {is}; {remedy}"));
    }

    let other_trust = |dir: &Path| {
        let other = Authority::make(ClusterId(1), NOW, AUTHORITY_LIFETIME).unwrap();
        fs::write(dir.join(TRUST), Trust::new(other.certificate().clone()).to_pem()).unwrap();
    };
    assert!(told(&other_trust).contains("by an authority that DIR/trust.pem does not have"));
}

#[test]
fn only_a_certificate_for_the_next_key_by_a_believed_authority_is_installed() {
    let (ours, other) = (authority(), authority());
    let folder = CrashDisk::default().folder();
    folder.believe(&Trust::new(ours.certificate().clone())).unwrap();
    let key = folder.next_key().unwrap();
    let error = folder.install(certificate(&other, &key)).unwrap_err();
    assert!(matches!(error, FolderError::Disbelieved { .. }), "{error}");
    let error = folder.install(certificate(&ours, &NodeKey::generate().unwrap())).unwrap_err();
    assert!(matches!(error, FolderError::Mismatch { .. }), "{error}");
    assert!(folder.load().unwrap().is_none());
    folder.install(certificate(&ours, &key)).unwrap();
}
