//! What processes hold of the machine's memory, from `/proc/PID/smaps_rollup`.

use std::{fs, iter::Sum};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Measure {
    /// Of a page that several processes share, each has its share: what ending them all would give back.
    Proportional,
    /// Pages in memory, each counted as often as it is mapped: what `ps` and `top` show.
    Resident,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) processes: usize,
    proportional: u64,
    resident: u64,
}

impl Usage {
    pub(crate) fn bytes(&self, measure: Measure) -> u64 {
        match measure {
            Measure::Proportional => self.proportional,
            Measure::Resident => self.resident,
        }
    }
}

impl Sum for Usage {
    fn sum<I: Iterator<Item = Usage>>(all: I) -> Usage {
        all.fold(Usage::default(), |sum, one| Usage {
            processes: sum.processes + one.processes,
            proportional: sum.proportional + one.proportional,
            resident: sum.resident + one.resident,
        })
    }
}

pub(crate) fn of(pid: i32) -> Usage {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let field = |name: &str| -> u64 {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_suffix("kB"));
        value
            .and_then(|value| value.trim().parse::<u64>().ok())
            .unwrap_or_else(|| panic!("{path}: no {name}"))
            << 10
    };
    Usage { processes: 1, proportional: field("Pss:"), resident: field("Rss:") }
}
