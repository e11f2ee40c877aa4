//! What a daemon keeps in memory while it has little to do.
//!
//! A daemon starts once: it reads its arguments, opens its stores, makes keys and connects. The instructions for that are
//! about a third of all that is resident of an idle agent, and would stay mapped for as long as nothing else wants the memory.
//! And where the kernel gives pages of 2 MiB to whoever touches a byte, a few hundred KiB in use take several of them.

use std::{fs, io, time::Duration};

use rustix::mm::{Advice, madvise};

/// By then a daemon has started.
const STARTED: Duration = Duration::from_secs(10);

/// Takes memory page by page from now on. Processes that are started later inherit it: a container must not.
pub fn take_small_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "memory may be taken in huge pages");
    }
}

/// Forgets, once this daemon has started, what it only needed for that. It comes back from the page cache as it is used.
pub async fn forget_start() {
    tokio::time::sleep(STARTED).await;
    if let Err(error) = forget() {
        tracing::debug!(%error, "the instructions of the start stay in memory");
    }
}

fn forget() -> io::Result<()> {
    for (start, end) in own_instructions()? {
        // SAFETY: nobody can have written to it, so what is dropped is in the file, from which the next use takes it again.
        unsafe { madvise(start as *mut _, end - start, Advice::LinuxDontNeed) }?;
    }
    Ok(())
}

/// Where the instructions of this program are: mapped from its file, and never writable.
fn own_instructions() -> io::Result<Vec<(usize, usize)>> {
    let program = fs::read_link("/proc/self/exe")?;
    let program = program.to_string_lossy();
    let maps = fs::read_to_string("/proc/self/maps")?;
    // address-address permissions offset device inode path, as proc_pid_maps(5) has it.
    let own = maps.lines().filter(|line| line.ends_with(&*program) && line.contains(" r-xp "));
    let range = |line: &str| {
        let (start, end) = line.split_once(' ')?.0.split_once('-')?;
        Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
    };
    Ok(own.filter_map(range).collect())
}

#[cfg(test)]
mod tests {
    use super::{forget, own_instructions};

    /// In KiB, of all that is mapped from files.
    fn resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("proc is mounted");
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).expect("RssFile");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    #[test]
    fn what_is_forgotten_is_no_longer_resident_and_works_on() {
        assert_eq!(
            own_instructions().expect("the maps").len(),
            1,
            "a program's instructions are one mapping"
        );
        let before = resident();
        forget().expect("the kernel does it");
        let after = resident();
        assert!(after < before, "{after} KiB are resident, {before} KiB were");
    }
}
