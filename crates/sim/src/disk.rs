//! A disk that forgets: what was not synced when the power goes is lost, kept or torn, sector by sector.
//!
//! The server's own log runs on it, so a run of the simulator exercises the real formats, segments and repairs.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use server::log::{Disk, DiskFile};

use crate::random::Random;

const SECTOR: usize = consensus::format::SECTOR_BYTES;

/// Clones are the same disk.
#[derive(Clone, Debug)]
pub(crate) struct SimDisk(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    unsynced_names: Vec<Naming>,
    /// So many operations still succeed; then the power is gone.
    fuse: Option<u32>,
    /// The file that was synced last.
    last_synced: Option<usize>,
    /// A deliberate bug: in a crash, what was synced last is forgotten all the same.
    lies: bool,
    random: Random,
}

#[derive(Debug, Default)]
struct File {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// Written since the last sync: where and what.
    unsynced: Vec<(usize, Vec<u8>)>,
    /// As it was before the last sync, for a disk that lies.
    before: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone, Debug)]
enum Naming {
    Add(String, usize),
    Rename(String, String),
    Remove(String),
}

impl SimDisk {
    pub(crate) fn new(random: Random, lies: bool) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(Inner {
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            fuse: None,
            last_synced: None,
            lies,
            random,
        })))
    }

    /// The power goes in the middle of whatever comes after `operations` more.
    pub(crate) fn set_fuse(&self, operations: u32) {
        self.lock().fuse = Some(operations);
    }

    pub(crate) fn clear_fuse(&self) {
        self.lock().fuse = None;
    }

    pub(crate) fn has_blown(&self) -> bool {
        self.lock().fuse == Some(0)
    }

    /// The power comes back: only what is durable is there.
    pub(crate) fn crash(&self) {
        let mut disk = self.lock();
        let Inner { files, names, durable_names, unsynced_names, fuse, last_synced, lies, random } =
            &mut *disk;
        *fuse = None;
        // Any beginning of the changes of names survives: file systems keep their order.
        let survive = random.between(0, unsynced_names.len() as u64) as usize;
        unsynced_names.drain(..).take(survive).for_each(|naming| naming.apply(durable_names));
        names.clone_from(durable_names);
        if let Some(file) = last_synced.take().filter(|_| *lies) {
            files[file].forget_last_sync();
        }
        files.iter_mut().for_each(|file| file.crash(random));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl File {
    fn write(&mut self, bytes: &[u8], offset: usize) {
        put(&mut self.bytes, bytes, offset);
        self.unsynced.push((offset, bytes.to_vec()));
    }

    fn sync(&mut self) {
        self.before.clear();
        for (offset, bytes) in self.unsynced.drain(..) {
            let end = (offset + bytes.len()).min(self.durable.len());
            self.before.push((offset, self.durable.get(offset..end).unwrap_or_default().to_vec()));
            put(&mut self.durable, &bytes, offset);
        }
    }

    fn forget_last_sync(&mut self) {
        for (offset, bytes) in std::mem::take(&mut self.before).into_iter().rev() {
            put(&mut self.durable, &bytes, offset);
        }
    }

    fn crash(&mut self, random: &mut Random) {
        for (offset, bytes) in std::mem::take(&mut self.unsynced) {
            for (number, sector) in bytes.chunks(SECTOR).enumerate() {
                if random.one_in(2) {
                    put(&mut self.durable, sector, offset + number * SECTOR);
                }
            }
        }
        self.bytes.clone_from(&self.durable);
    }
}

fn put(into: &mut Vec<u8>, bytes: &[u8], offset: usize) {
    let end = offset + bytes.len();
    if into.len() < end {
        into.resize(end, 0);
    }
    into[offset..end].copy_from_slice(bytes);
}

impl Naming {
    /// One that depends on another that was lost is lost as well.
    fn apply(self, names: &mut BTreeMap<String, usize>) {
        match self {
            Naming::Add(name, file) => {
                names.insert(name, file);
            }
            Naming::Rename(from, to) => {
                if let Some(file) = names.remove(&from) {
                    names.insert(to, file);
                }
            }
            Naming::Remove(name) => {
                names.remove(&name);
            }
        }
    }
}

impl Inner {
    /// Whether the power is still on for one more operation.
    fn spend(&mut self) -> io::Result<()> {
        match &mut self.fuse {
            None => Ok(()),
            Some(0) => Err(io::Error::other("the power is gone")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn name(&mut self, naming: Naming) {
        naming.clone().apply(&mut self.names);
        self.unsynced_names.push(naming);
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let disk = self.lock();
        Ok(disk.files[disk.find(name)?].bytes.clone())
    }

    fn create(&self, name: &str) -> io::Result<SimFile> {
        let mut disk = self.lock();
        disk.spend()?;
        disk.files.push(File::default());
        let number = disk.files.len() - 1;
        disk.name(Naming::Add(name.to_owned(), number));
        Ok(SimFile { disk: self.clone(), number })
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        Ok(SimFile { disk: self.clone(), number: self.lock().find(name)? })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.lock();
        disk.spend()?;
        disk.find(from)?;
        disk.name(Naming::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.lock();
        disk.spend()?;
        disk.find(name)?;
        disk.name(Naming::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut disk = self.lock();
        disk.spend()?;
        disk.durable_names = disk.names.clone();
        disk.unsynced_names.clear();
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct SimFile {
    disk: SimDisk,
    number: usize,
}

impl DiskFile for SimFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.spend()?;
        disk.files[self.number].write(bytes, offset as usize);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.spend()?;
        disk.last_synced = Some(self.number);
        disk.files[self.number].sync();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_synced_stays_and_what_is_not_may_go() {
        let (mut lost, mut kept) = (0, 0);
        for seed in 0..64 {
            let disk = SimDisk::new(Random::new(seed), false);
            let mut file = disk.create("a").unwrap();
            file.write_at(&[1; SECTOR], 0).unwrap();
            file.sync().unwrap();
            disk.sync_names().unwrap();
            file.write_at(&[2; SECTOR], 0).unwrap();
            disk.crash();
            match disk.read("a").unwrap()[..] {
                [1, ..] => lost += 1,
                [2, ..] => kept += 1,
                _ => panic!("neither the old nor the new bytes"),
            }
        }
        assert!(lost > 0 && kept > 0, "{lost} lost, {kept} kept");
    }

    #[test]
    fn after_the_fuse_nothing_works_until_the_power_is_back() {
        let disk = SimDisk::new(Random::new(1), false);
        disk.set_fuse(1);
        disk.create("a").unwrap();
        assert!(disk.sync_names().is_err() && disk.has_blown());
        disk.crash();
        disk.sync_names().unwrap();
    }
}
