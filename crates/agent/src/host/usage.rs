//! What is in use of this host, by everything on it.

use std::fs;

use model::{Bytes, MilliCpu, Usage};

/// So that a host where nothing happens says the same again and again.
const CPU_STEP: u64 = 10;
const MEMORY_STEP: u64 = 1 << 20;

/// Measures from one look to the next.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    last: Option<Times>,
}

/// Since the host started, over all processors, in the kernel's own unit. Source: proc_stat(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    all: u64,
    idle: u64,
}

impl Meter {
    /// None at the first look, and where the kernel does not tell.
    pub(crate) fn look(&mut self) -> Option<Usage> {
        let now = times(&fs::read_to_string("/proc/stat").ok()?)?;
        let last = self.last.replace(now)?;
        let processors = std::thread::available_parallelism().ok()?.get() as u64;
        let memory = used_memory(&fs::read_to_string("/proc/meminfo").ok()?)?;
        Some(Usage { cpu: used_cpu(last, now, processors)?, memory })
    }
}

fn used_cpu(last: Times, now: Times, processors: u64) -> Option<MilliCpu> {
    let all = now.all.checked_sub(last.all).filter(|all| *all > 0)?;
    let busy = all.saturating_sub(now.idle.saturating_sub(last.idle));
    Some(MilliCpu(busy * processors * 1_000 / all / CPU_STEP * CPU_STEP))
}

fn times(stat: &str) -> Option<Times> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // What guests used is part of the first two already.
    let fields: Vec<u64> = line.split_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
    let [_, _, _, idle, io_wait, ..] = fields[..] else { return None };
    Some(Times { all: fields.iter().sum(), idle: idle + io_wait })
}

/// What could not be given to somebody else without swapping.
fn used_memory(meminfo: &str) -> Option<Bytes> {
    let field = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let kib = field("MemTotal")?.saturating_sub(field("MemAvailable")?);
    Some(Bytes((kib << 10) / MEMORY_STEP * MEMORY_STEP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_count_between_two_looks() {
        let first = times("cpu  100 0 50 800 50 0 0 0 7 7\ncpu0 1 2 3 4\n").unwrap();
        assert_eq!(first, Times { all: 1_000, idle: 850 });
        let second = times("cpu  150 0 50 950 50 0 0 0 9 9\n").unwrap();
        assert_eq!(used_cpu(first, second, 4), Some(MilliCpu(1_000)), "a quarter of four");
        assert_eq!(used_cpu(second, second, 4), None);
        assert_eq!(times("intr 1"), None);
    }

    #[test]
    fn memory_is_what_is_not_available() {
        let text = "MemTotal: 4096 kB\nMemFree: 1 kB\nMemAvailable:    1024 kB\n";
        assert_eq!(used_memory(text), Some(Bytes(3 << 20)));
        assert_eq!(used_memory("MemTotal: 4096 kB\n"), None);
    }
}
