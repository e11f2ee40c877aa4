//! A directory in memory that behaves as badly as a real one may.
//!
//! A crash keeps any sectors of what was not synced, and any beginning of the changes of names. Each operation that
//! changes something can be the one at which the crash comes, or the one that fails.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use consensus::format::SECTOR_BYTES;

use crate::log::{Disk, DiskFile};

type Name = String;
type FileId = usize;

#[derive(Clone, Debug, Default)]
pub(super) struct ModelDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    files: Vec<FileState>,
    names: BTreeMap<Name, FileId>,
    durable_names: BTreeMap<Name, FileId>,
    name_changes: Vec<NameChange>,
    operations: u64,
    faults: Faults,
    crashed: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// The operation with this number is the last, and happens only in part.
    pub(super) crash_at: Option<u64>,
    /// The sync with this number and every later one fails; the data may or may not be there.
    pub(super) fail_syncs_from: Option<u64>,
    /// Every write fails with this number.
    pub(super) fail_writes_with: Option<i32>,
    /// New files together may not be larger than this.
    pub(super) capacity_bytes: Option<usize>,
}

#[derive(Debug, Default)]
struct FileState {
    /// As a reader sees it.
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that the next sync writes. A failed sync forgets them, as Linux does.
    dirty: BTreeSet<usize>,
}

#[derive(Debug)]
enum NameChange {
    Set(Name, FileId),
    Remove(Name),
}

#[derive(Debug)]
pub(super) struct ModelFile {
    disk: ModelDisk,
    id: FileId,
}

pub(super) const CRASHED: &str = "the machine has crashed";

impl ModelDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panicking test is over anyway.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn set_faults(&self, faults: Faults) {
        let mut state = self.state();
        state.faults = faults;
        state.operations = 0;
    }

    pub(super) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// The power comes back. `chance` decides what of the unsynced survived.
    pub(super) fn restart(&self, chance: &mut dyn FnMut() -> bool) {
        let mut state = self.state();
        for file in &mut state.files {
            file.bytes = surviving(file, chance);
            file.durable = file.bytes.clone();
            file.dirty.clear();
        }
        let mut names = state.durable_names.clone();
        for change in std::mem::take(&mut state.name_changes) {
            if !chance() {
                break;
            }
            apply(&mut names, change);
        }
        state.durable_names = names.clone();
        state.names = names;
        state.crashed = false;
        state.faults = Faults::default();
    }

    /// The process was killed: the kernel still has everything, and has synced no more than before.
    pub(super) fn restart_process(&self) {
        let mut state = self.state();
        state.crashed = false;
        state.faults = Faults::default();
    }

    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.names.get(name).map(|&id| state.files[id].bytes.clone()).unwrap_or_default()
    }

    pub(super) fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let id = state.names[name];
        change(&mut state.files[id].bytes);
    }
}

/// Every sector is as it was synced or as it was written last.
fn surviving(file: &FileState, chance: &mut dyn FnMut() -> bool) -> Vec<u8> {
    let mut durable = file.durable.clone();
    durable.resize(durable.len().max(file.bytes.len()), 0);
    for (sector, (old, new)) in
        durable.chunks_mut(SECTOR_BYTES).zip(file.bytes.chunks(SECTOR_BYTES)).enumerate()
    {
        if file.dirty.contains(&sector) && chance() {
            old[..new.len()].copy_from_slice(new);
        }
    }
    durable
}

fn apply(names: &mut BTreeMap<Name, FileId>, change: NameChange) {
    match change {
        NameChange::Set(name, id) => names.insert(name, id),
        NameChange::Remove(name) => names.remove(&name),
    };
}

impl State {
    /// Counts an operation. Says whether it happens only in part, because the crash comes now.
    fn operation(&mut self) -> io::Result<bool> {
        if self.crashed {
            return Err(io::Error::other(CRASHED));
        }
        self.operations += 1;
        self.crashed = self.faults.crash_at == Some(self.operations);
        Ok(self.crashed)
    }

    fn finish(crashed: bool) -> io::Result<()> {
        if crashed { Err(io::Error::other(CRASHED)) } else { Ok(()) }
    }

    fn sync_fails(&self) -> io::Result<()> {
        match self.faults.fail_syncs_from.is_some_and(|from| self.operations >= from) {
            true => Err(io::Error::from_raw_os_error(5)),
            false => Ok(()),
        }
    }

    fn used_bytes(&self) -> usize {
        self.names.values().map(|&id| self.files[id].bytes.len()).sum()
    }
}

fn not_found() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl Disk for ModelDisk {
    type File = ModelFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let state = self.state();
        let id = state.names.get(name).ok_or_else(not_found)?;
        Ok(state.files[*id].bytes.clone())
    }

    fn create(&self, name: &str) -> io::Result<ModelFile> {
        let mut state = self.state();
        let crashed = state.operation()?;
        let id = state.files.len();
        state.files.push(FileState::default());
        state.names.insert(name.to_owned(), id);
        state.name_changes.push(NameChange::Set(name.to_owned(), id));
        State::finish(crashed).map(|()| ModelFile { disk: self.clone(), id })
    }

    fn open(&self, name: &str) -> io::Result<ModelFile> {
        let id = *self.state().names.get(name).ok_or_else(not_found)?;
        Ok(ModelFile { disk: self.clone(), id })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let crashed = state.operation()?;
        let id = state.names.remove(from).ok_or_else(not_found)?;
        state.names.insert(to.to_owned(), id);
        state.name_changes.push(NameChange::Set(to.to_owned(), id));
        state.name_changes.push(NameChange::Remove(from.to_owned()));
        State::finish(crashed)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        let crashed = state.operation()?;
        state.names.remove(name).ok_or_else(not_found)?;
        state.name_changes.push(NameChange::Remove(name.to_owned()));
        State::finish(crashed)
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.operation()? {
            return State::finish(true);
        }
        state.sync_fails()?;
        state.durable_names = state.names.clone();
        state.name_changes.clear();
        Ok(())
    }
}

impl DiskFile for ModelFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let crashed = state.operation()?;
        if let Some(number) = state.faults.fail_writes_with {
            return Err(io::Error::from_raw_os_error(number));
        }
        let end = offset as usize + bytes.len();
        let grows = end.saturating_sub(state.files[self.id].bytes.len());
        if state.faults.capacity_bytes.is_some_and(|capacity| state.used_bytes() + grows > capacity) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let file = &mut state.files[self.id];
        file.bytes.resize(file.bytes.len().max(end), 0);
        file.bytes[offset as usize..end].copy_from_slice(bytes);
        file.dirty.extend(offset as usize / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
        State::finish(crashed)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.operation()? {
            return State::finish(true);
        }
        let failed = state.sync_fails();
        let file = &mut state.files[self.id];
        file.durable.resize(file.bytes.len(), 0);
        for sector in std::mem::take(&mut file.dirty) {
            let range = sector * SECTOR_BYTES..file.bytes.len().min((sector + 1) * SECTOR_BYTES);
            if failed.is_ok() {
                file.durable[range.clone()].copy_from_slice(&file.bytes[range]);
            }
        }
        failed
    }
}
