//! What a container uses, as its groups count it.

use std::fs;
use std::path::PathBuf;

use super::Groups;

/// What a container uses now. A missing number is one that its cgroups do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub memory_bytes: Option<u64>,
    /// Processor time since the container started.
    pub cpu_ns: Option<u64>,
    pub pids: Option<u64>,
}

impl Groups {
    pub(crate) fn usage(&self) -> Usage {
        let unified = |file: &str| self.unified.as_ref().map(|path| path.join(file));
        let v1 = |controller: &str, file: &str| self.v1.get(controller).map(|path| path.join(file));
        let in_either =
            |controller: &str, old: &str, new: &str| number(v1(controller, old).or_else(|| unified(new))?);
        let cpu_stat = || fs::read_to_string(unified("cpu.stat")?).ok();
        Usage {
            memory_bytes: in_either("memory", "memory.usage_in_bytes", "memory.current"),
            cpu_ns: v1("cpuacct", "cpuacct.usage")
                .and_then(number)
                .or_else(|| keyed(&cpu_stat()?, "usage_usec").map(|micros| micros * 1000)),
            pids: in_either("pids", "pids.current", "pids.current"),
        }
    }
}

/// The number that a file consists of.
pub(super) fn number(path: PathBuf) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number after `key` in a text of `key value` lines.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}
