//! What is sealed is opened by those who may, where it was sealed, and by nobody else.

#![allow(clippy::unwrap_used)] // Clippy's exemption of tests does not reach the helpers of an integration test.

use std::path::Path;

use model::ClusterId;
use proptest::prelude::*;
use trust::seal::{
    KeyFile, KeyId, KeyRing, Lock, LockError, LockedKeys, LockedTextError, OVERHEAD, OpenError, Passphrase,
    Place, RetireError, Sealer, Unlock, UnlockError, UnlocksWith, Work, sealed_with,
};
use zeroize::Zeroizing;

const CLUSTER: ClusterId = ClusterId(1);
/// As little as Argon2 allows: tests are not there to be slow.
const WORK: Work = Work { memory_kib: 8, passes: 1, lanes: 1 };

fn ring() -> KeyRing {
    KeyRing::make(CLUSTER).unwrap()
}

fn sealed(sealer: &Sealer, place: &Place, position: u64, record: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    sealer.seal(place, position, record, &mut out).unwrap();
    out
}

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(Zeroizing::new(text.to_owned()))
}

proptest! {
    #[test]
    fn a_record_is_opened_where_it_was_sealed_and_nowhere_else(
        record in prop::collection::vec(any::<u8>(), 0..200), position: u64, elsewhere: u64,
    ) {
        let sealer = Sealer::new(&ring());
        let place = Place::new(CLUSTER, "log");
        let mut bytes = sealed(&sealer, &place, position, &record);
        prop_assert_eq!(bytes.len(), record.len() + OVERHEAD);
        for other in [Place::new(CLUSTER, "snapshot"), Place::new(ClusterId(2), "log")] {
            prop_assert_eq!(sealer.open(&other, position, &mut bytes), Err(OpenError::Refused));
        }
        if elsewhere != position {
            prop_assert_eq!(sealer.open(&place, elsewhere, &mut bytes), Err(OpenError::Refused));
        }
        // What was refused is as it was, so it is still opened where it belongs.
        prop_assert_eq!(sealer.open(&place, position, &mut bytes).unwrap(), &record[..]);
    }
}

#[test]
fn any_flipped_bit_and_any_cut_is_refused() {
    let sealer = Sealer::new(&ring());
    let place = Place::new(CLUSTER, "log");
    let whole = sealed(&sealer, &place, 7, b"what was decided");
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(sealer.open(&place, 7, &mut flipped).is_err(), "bit {bit}");
    }
    for len in 0..whole.len() {
        assert!(sealer.open(&place, 7, &mut whole[..len].to_vec()).is_err(), "cut to {len}");
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert_eq!(sealer.open(&place, 7, &mut longer), Err(OpenError::Refused));
    let mut newer = whole;
    newer[0] = 2;
    assert_eq!(sealer.open(&place, 7, &mut newer), Err(OpenError::Version(2)));
}

#[test]
fn the_same_record_is_never_sealed_alike() {
    let sealer = Sealer::new(&ring());
    let place = Place::new(CLUSTER, "log");
    assert_ne!(sealed(&sealer, &place, 1, b"x"), sealed(&sealer, &place, 1, b"x"));
}

#[test]
fn records_are_encoded_and_opened_where_they_lie() {
    let sealer = Sealer::new(&ring());
    let place = Place::new(CLUSTER, "log");
    let mut out = Vec::with_capacity(1_000);
    let began_at = out.as_ptr();
    for position in 0..3_u64 {
        let begun = sealer.begin(&mut out);
        out.extend_from_slice(&position.to_be_bytes());
        sealer.finish(begun, &place, position, &mut out).unwrap();
    }
    assert_eq!(out.as_ptr(), began_at, "a buffer with room is not replaced");
    for (position, record) in (0..3_u64).zip(out.chunks_mut(8 + OVERHEAD)) {
        assert_eq!(sealer.open(&place, position, record).unwrap(), position.to_be_bytes());
    }
}

#[test]
fn keys_are_rotated_without_touching_what_is_sealed() {
    let mut ring = ring();
    let place = Place::new(CLUSTER, "log");
    let mut old = sealed(&Sealer::new(&ring), &place, 1, b"old");
    assert_eq!(ring.rotate().unwrap(), KeyId(2));
    let sealer = Sealer::new(&ring);
    let mut new = sealed(&sealer, &place, 2, b"new");
    assert_eq!((sealed_with(&old), sealed_with(&new)), (Ok(KeyId(1)), Ok(KeyId(2))));

    assert_eq!(ring.retire(KeyId(2)), Err(RetireError::Active(KeyId(2))));
    ring.retire(KeyId(1)).unwrap();
    assert_eq!(ring.retire(KeyId(1)), Err(RetireError::Unknown(KeyId(1))));
    let without = Sealer::new(&ring);
    assert_eq!(without.open(&place, 1, &mut old), Err(OpenError::UnknownKey(KeyId(1))));
    assert_eq!(without.open(&place, 2, &mut new).unwrap(), b"new");
    assert_eq!(sealer.open(&place, 1, &mut old).unwrap(), b"old");
}

#[test]
fn a_locked_ring_is_unlocked_by_what_locked_it() {
    let mut ring = ring();
    ring.rotate().unwrap();
    let place = Place::new(CLUSTER, "log");
    let record = sealed(&Sealer::new(&ring), &place, 1, b"x");
    let (file, phrase) = (KeyFile::make().unwrap(), passphrase("correct horse battery"));
    let opens = |locked: &LockedKeys, unlock: Unlock<'_>| {
        let read = LockedKeys::decode(&locked.encode()).unwrap();
        assert_eq!(&read, locked);
        let ring = read.unlock(unlock)?;
        assert_eq!(ring.ids().collect::<Vec<_>>(), [KeyId(1), KeyId(2)]);
        assert_eq!(Sealer::new(&ring).open(&place, 1, &mut record.clone()).unwrap(), b"x");
        Ok::<_, UnlockError>(())
    };

    let locked = ring.lock(Lock::KeyFile(&file)).unwrap();
    let written = KeyFile::decode(&file.encode()).unwrap();
    opens(&locked, Unlock::KeyFile(&written)).unwrap();
    let other = KeyFile::make().unwrap();
    let (wanted, given) = (file.fingerprint(), other.fingerprint());
    assert_eq!(opens(&locked, Unlock::KeyFile(&other)), Err(UnlockError::OtherKeyFile { wanted, given }));
    assert_eq!(opens(&locked, Unlock::Passphrase(&phrase)), Err(UnlockError::WantsKeyFile(wanted)));

    // From key file to passphrase: the data stays as it is.
    let locked = ring.lock(Lock::Passphrase(&phrase, WORK)).unwrap();
    assert!(matches!(locked.unlocks_with(), UnlocksWith::Passphrase(salted) if salted.work == WORK));
    opens(&locked, Unlock::Passphrase(&passphrase("correct horse battery"))).unwrap();
    let wrong = opens(&locked, Unlock::Passphrase(&passphrase("Correct horse battery")));
    assert_eq!(wrong, Err(UnlockError::WrongPassphrase));
    assert_eq!(opens(&locked, Unlock::KeyFile(&file)), Err(UnlockError::WantsPassphrase));
}

#[test]
fn a_short_passphrase_and_a_boundless_stretching_are_refused() {
    let ring = ring();
    let short = ring.lock(Lock::Passphrase(&passphrase("elevenchars"), WORK));
    assert_eq!(short.unwrap_err(), LockError::TooShort);
    let phrase = passphrase("correct horse battery");
    for work in [
        Work { memory_kib: 2 << 20, ..WORK },
        Work { passes: 65, ..WORK },
        Work { passes: 0, ..WORK },
        Work { lanes: 17, memory_kib: 1_000, ..WORK },
    ] {
        assert!(matches!(ring.lock(Lock::Passphrase(&phrase, work)), Err(LockError::Work(_))), "{work:?}");
    }
}

/// Only the one who has the key file could have written the text, and damage is no forgery.
#[test]
fn a_changed_locked_ring_is_told() {
    let file = KeyFile::make().unwrap();
    let mut ring = ring();
    let before = ring.lock(Lock::KeyFile(&file)).unwrap().encode();
    ring.rotate().unwrap();
    let text = ring.lock(Lock::KeyFile(&file)).unwrap().encode();
    for at in 0..text.len() {
        let mut changed = text.as_bytes().to_vec();
        changed[at] ^= 1;
        let read = LockedKeys::decode(std::str::from_utf8(&changed).unwrap());
        let header = at < "wharf-keys 1\n".len();
        assert_eq!(matches!(read, Err(LockedTextError::Header(_))), header, "byte {at}");
        assert!(read.is_err(), "byte {at}");
    }

    // Another cluster's name on it, with the check put right.
    let forged = text.replace("cluster 0000000000001", "cluster 0000000000002");
    let body = &forged[..forged.rfind("check ").unwrap()];
    let forged = format!("{body}check {:08x}\n", crc32fast::hash(body.as_bytes()));
    let forged = LockedKeys::decode(&forged).unwrap();
    assert_eq!(forged.unlock(Unlock::KeyFile(&file)).unwrap_err(), UnlockError::Forged);

    // An older ring is a ring: that it is the newest is for whoever stores it.
    let older = LockedKeys::decode(&before).unwrap().unlock(Unlock::KeyFile(&file)).unwrap();
    assert_eq!(older.active(), KeyId(1));
}

/// Written by an earlier build: what lies on disks is read for ever. `UPDATE_GOLDENS=1` writes it only where there is none.
#[test]
fn what_was_written_before_is_still_read() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sealed.txt"));
    if !path.exists() && std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(path, golden()).unwrap();
    }
    let text = std::fs::read_to_string(path).unwrap();
    let parts: Vec<&str> = text.split_inclusive("---\n").map(|part| part.trim_end_matches("---\n")).collect();
    let [locked, record, file, fingerprint] = parts[..] else { panic!("four parts: {text}") };

    let ring = LockedKeys::decode(locked).unwrap();
    let ring = ring.unlock(Unlock::Passphrase(&passphrase("correct horse battery"))).unwrap();
    let digits = record.trim_end().as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    let mut record: Vec<u8> = digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
    let sealer = Sealer::new(&ring);
    assert_eq!(sealer.open(&Place::new(CLUSTER, "log"), 7, &mut record).unwrap(), b"what was decided");
    let file = KeyFile::decode(file).unwrap();
    assert_eq!(file.fingerprint().to_string(), fingerprint.trim_end());
}

fn golden() -> String {
    let mut ring = ring();
    ring.rotate().unwrap();
    let locked = ring.lock(Lock::Passphrase(&passphrase("correct horse battery"), WORK)).unwrap().encode();
    let record = sealed(&Sealer::new(&ring), &Place::new(CLUSTER, "log"), 7, b"what was decided");
    let record: String = record.iter().map(|byte| format!("{byte:02x}")).collect();
    let file = KeyFile::make().unwrap();
    format!("{locked}---\n{record}\n---\n{}---\n{}\n", file.encode().as_str(), file.fingerprint())
}
