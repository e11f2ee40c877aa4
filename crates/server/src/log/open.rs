//! Opening: what is on disk becomes the state to start from, and the log is made ready for the next group.

use std::{collections::BTreeSet, path::Path};

use consensus::{
    Recovered,
    format::{
        DataKey, Decrypt, GroupBuilder, HEADER_BYTES, NoKeys, Position, Recovery, SegmentFile, SegmentHeader,
        SnapshotFile, Torn, decode_snapshot, recover, segment_name, segment_number, snapshot_index,
        snapshot_is_encrypted, snapshot_name,
    },
};

use super::{
    Disk, DiskFile, HostDisk, Log, LogError, OpenError, SnapshotWriter, Vault,
    append::{SegmentSizes, create_segment},
};

const CREATING: &str = "creating";

#[derive(Debug)]
pub struct Opened<D: Disk = HostDisk> {
    pub log: Log<D>,
    pub recovered: Recovered,
    pub report: Report,
}

/// What was found and done, for the server to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// There was no log: it was made.
    pub created: bool,
    /// The end of the last write before a crash was cut off. It was never acknowledged.
    pub torn: Option<Torn>,
    pub segments: usize,
    pub entries: usize,
    /// What is on disk needs these.
    pub keys: BTreeSet<DataKey>,
}

impl Log<HostDisk> {
    /// Opens the log in `dir`, which is not encrypted, or makes one that begins with `new()`.
    pub fn open(dir: &Path, new: impl FnOnce() -> Recovered) -> Result<Opened, OpenError> {
        Log::open_on(HostDisk::open(dir)?, SegmentSizes::default(), None, new)
    }
}

impl<D: Disk> Log<D> {
    /// With a vault, everything that is written from now on is encrypted; what is there may or may not be.
    pub fn open_on(
        disk: D,
        sizes: SegmentSizes,
        vault: Option<Vault>,
        new: impl FnOnce() -> Recovered,
    ) -> Result<Opened<D>, OpenError> {
        let names = Names::list(&disk)?;
        if names.creating || (names.segments.is_empty() && names.snapshots.is_empty()) {
            return create(disk, sizes, vault, &names, new());
        }
        open_existing(disk, sizes, vault, &names)
    }
}

struct Names {
    segments: Vec<u64>,
    snapshots: Vec<u64>,
    drafts: Vec<String>,
    creating: bool,
}

impl Names {
    fn list<D: Disk>(disk: &D) -> Result<Names, OpenError> {
        let mut names = disk.list().map_err(OpenError::io("the directory", "listed"))?;
        names.sort();
        Ok(Names {
            segments: names.iter().filter_map(|name| segment_number(name)).collect(),
            snapshots: names.iter().filter_map(|name| snapshot_index(name)).collect(),
            creating: names.iter().any(|name| name == CREATING),
            drafts: names.into_iter().filter(|name| is_draft(name)).collect(),
        })
    }
}

/// Whether there is a log that was ever used.
pub fn is_there<D: Disk>(disk: &D) -> Result<bool, OpenError> {
    let Names { segments, snapshots, creating, .. } = Names::list(disk)?;
    let has_files = !segments.is_empty() || !snapshots.is_empty();
    Ok(has_files && !creating)
}

/// Whether anything in a log's directory can be read only with keys. What is damaged is none of its business.
pub fn is_encrypted<D: Disk>(disk: &D) -> Result<bool, OpenError> {
    let Names { segments, snapshots, .. } = Names::list(disk)?;
    let read = |name: String| disk.read(&name).map_err(OpenError::io(&name, "read"));
    for segment in segments {
        let bytes = read(segment_name(segment))?;
        if SegmentHeader::decode(segment, &bytes).is_ok_and(|header| header.encrypted_with.is_some()) {
            return Ok(true);
        }
    }
    for index in snapshots {
        if snapshot_is_encrypted(&read(snapshot_name(index))?) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_draft(name: &str) -> bool {
    let of = |name: &str| segment_number(name).is_some() || snapshot_index(name).is_some();
    name.strip_suffix(".tmp").is_some_and(of)
}

/// Makes a new log. While `creating` is there, everything beside it may be thrown away: nobody has used it yet.
fn create<D: Disk>(
    disk: D,
    sizes: SegmentSizes,
    vault: Option<Vault>,
    names: &Names,
    recovered: Recovered,
) -> Result<Opened<D>, OpenError> {
    assert!(recovered.entries.is_empty(), "a new log begins without entries");
    let io = |action| OpenError::io(CREATING, action);
    let sync = || disk.sync_names().map_err(OpenError::io("the directory", "synced"));
    disk.create(CREATING).map_err(io("created"))?;
    sync()?;
    let segments = names.segments.iter().map(|&segment| segment_name(segment));
    let snapshots = names.snapshots.iter().map(|&index| snapshot_name(index));
    for name in segments.chain(snapshots).chain(names.drafts.iter().cloned()) {
        disk.remove(&name).map_err(OpenError::io(&name, "removed"))?;
    }
    if let Some(snapshot) = &recovered.snapshot {
        SnapshotWriter::new(disk.clone(), vault.clone(), recovered.id).write(snapshot)?;
    }
    let (index, term) = recovered.last();
    let encrypted_with = vault.as_ref().map(|vault| vault.encrypt().key());
    let header = SegmentHeader {
        member: recovered.id,
        segment: 1,
        length_bytes: sizes.length(0, 0),
        first_group: 1,
        hard_state: recovered.hard_state,
        before: Position { index, term },
        encrypted_with,
    };
    let file = create_segment(&disk, &header)?;
    disk.remove(CREATING).map_err(io("removed"))?;
    sync()?;
    let log = Log {
        member: recovered.id,
        segments: [header].into(),
        file,
        end_offset: HEADER_BYTES as u64,
        next_group: 1,
        hard_state: recovered.hard_state,
        last: header.before,
        poisoned: false,
        disk,
        sizes,
        vault,
    };
    let keys = encrypted_with.into_iter().collect();
    let report = Report { created: true, torn: None, segments: 1, entries: 0, keys };
    Ok(Opened { log, recovered, report })
}

fn open_existing<D: Disk>(
    disk: D,
    sizes: SegmentSizes,
    vault: Option<Vault>,
    names: &Names,
) -> Result<Opened<D>, OpenError> {
    let keys: &dyn Decrypt = vault.as_ref().map_or(&NoKeys, |vault| vault);
    let snapshot = read_snapshot(&disk, names, keys)?;
    let snapshot_key = snapshot.as_ref().and_then(|file| file.encrypted_with);
    let snapshot = snapshot.map(|file| (file.member, file.snapshot));
    let mut files = Vec::new();
    for &segment in &names.segments {
        let name = segment_name(segment);
        files.push((segment, disk.read(&name).map_err(OpenError::io(&name, "read"))?));
    }
    let segments: Vec<SegmentFile<'_>> =
        files.iter().map(|(segment, bytes)| SegmentFile { segment: *segment, bytes }).collect();
    let recovery = recover(snapshot, &segments, keys)?;
    // Only now, after nothing was found wrong, is anything changed.
    for draft in &names.drafts {
        disk.remove(draft).map_err(OpenError::io(draft, "removed"))?;
    }
    let last_bytes = segments.last().map_or(&[][..], |file| file.bytes);
    let file = repair(&disk, &recovery, last_bytes)?;
    let mut opened = ready_log(disk, sizes, vault, recovery, file)?;
    opened.report.keys.extend(snapshot_key);
    Ok(opened)
}

fn read_snapshot<D: Disk>(
    disk: &D,
    names: &Names,
    keys: &dyn Decrypt,
) -> Result<Option<SnapshotFile>, OpenError> {
    let Some(&newest) = names.snapshots.iter().max() else { return Ok(None) };
    let name = snapshot_name(newest);
    let file = disk.read(&name).map_err(OpenError::io(&name, "read"))?;
    Ok(Some(decode_snapshot(newest, &file.into(), keys)?))
}

/// Makes durable what was read, and cuts what was torn.
///
/// What was read may have come from the page cache alone: a killed process leaves writes there that were never synced,
/// and a failed sync leaves pages there that count as clean. Only the last group can be such a one, because every
/// other was synced before it. So it is written again.
fn repair<D: Disk>(disk: &D, recovery: &Recovery, last_bytes: &[u8]) -> Result<D::File, LogError> {
    disk.sync_names().map_err(|e| LogError::fatal("the log's directory", "synced", e))?;
    if let Some(seal) = &recovery.seal {
        let name = segment_name(seal.segment);
        let mut file = disk.open(&name).map_err(|e| LogError::fatal(&name, "opened", e))?;
        file.write_at(&seal.bytes, seal.offset)
            .and_then(|()| file.sync())
            .map_err(|e| LogError::fatal(&name, "sealed", e))?;
    }
    let name = recovery.headers.last().map(|header| segment_name(header.segment)).unwrap_or_default();
    let mut file = disk.open(&name).map_err(|e| LogError::fatal(&name, "opened", e))?;
    let write = |file: &mut D::File| {
        if let Some(offset) = recovery.last_group_offset {
            file.write_at(&last_bytes[offset as usize..recovery.end_offset as usize], offset)?;
        }
        if let Some(torn) = &recovery.torn {
            file.write_at(&vec![0; torn.bytes as usize], torn.offset)?;
        }
        file.sync()
    };
    write(&mut file).map_err(|e| LogError::fatal(&name, "repaired", e))?;
    Ok(file)
}

fn ready_log<D: Disk>(
    disk: D,
    sizes: SegmentSizes,
    vault: Option<Vault>,
    recovery: Recovery,
    file: D::File,
) -> Result<Opened<D>, OpenError> {
    let recovered = recovery.recovered;
    let (index, term) = recovered.last();
    let mut log = Log {
        disk,
        sizes,
        vault,
        member: recovered.id,
        segments: recovery.headers.into(),
        file,
        end_offset: recovery.end_offset,
        next_group: recovery.next_group,
        hard_state: recovery.logged_hard_state,
        last: Position { index, term },
        poisoned: false,
    };
    if let Some(position) = recovery.restart {
        let mut group = GroupBuilder::default();
        group.restart(position);
        group.hard_state(recovered.hard_state);
        log.write_group(&group)?;
        log.hard_state = recovered.hard_state;
    }
    log.remove_covered(recovered.snapshot.as_ref().map_or(0, |snapshot| snapshot.meta.index))?;
    let (segments, entries) = (log.segments.len(), recovered.entries.len());
    let keys = log.segments.iter().filter_map(|segment| segment.encrypted_with).collect();
    let report = Report { created: false, torn: recovery.torn, segments, entries, keys };
    Ok(Opened { log, recovered, report })
}
