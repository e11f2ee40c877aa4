//! Whether what is measured is a disk at all.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::Path,
    time::{Duration, Instant},
};

use rustix::fs::statfs;

const TMPFS_MAGIC: u64 = 0x0102_1994;
/// No disk makes anything durable in less.
const SHORTEST_SYNC: Duration = Duration::from_micros(5);
const SYNCS: usize = 500;
const BLOCK: [u8; 512] = [7; 512];

/// Says what a durable write costs in `folder`, at the least; refuses where none is made.
pub(super) fn check(folder: &Path) -> Result<String, String> {
    let shown = folder.display();
    if statfs(folder).map_err(|error| format!("{shown}: {error}"))?.f_type as u64 == TMPFS_MAGIC {
        return Err(format!(
            "{shown} is a tmpfs, which makes nothing durable; set TMPDIR to a folder on a disk"
        ));
    }
    let mut took = syncs(folder).map_err(|error| format!("{shown}: {error}"))?;
    took.sort_unstable();
    let (p50, p99) = (took[SYNCS / 2], took[SYNCS * 99 / 100]);
    if p50 < SHORTEST_SYNC {
        return Err(format!("an fdatasync in {shown} takes {p50:.0?}: nothing is made durable there"));
    }
    Ok(format!(
        "disk at {shown}: pwrite and fdatasync of {} bytes, p50 {p50:.0?}, p99 {p99:.0?}",
        BLOCK.len()
    ))
}

fn syncs(folder: &Path) -> std::io::Result<Vec<Duration>> {
    let file = File::create(folder.join("probe"))?;
    file.write_all_at(&vec![0; SYNCS * BLOCK.len()], 0)?;
    file.sync_all()?;
    let sync = |number: usize| {
        let began = Instant::now();
        file.write_all_at(&BLOCK, (number * BLOCK.len()) as u64)?;
        file.sync_data()?;
        Ok(began.elapsed())
    };
    (0..SYNCS).map(sync).collect()
}
