//! What this host is and has.

use std::fs;

use model::{Bytes, MilliCpu, NodeId, NodeInfo, Subnet};

use super::HostError;
use crate::config::Config;

pub(crate) fn node_info(config: &Config, id: NodeId, subnet: Option<Subnet>) -> Result<NodeInfo, HostError> {
    const MEMINFO: &str = "/proc/meminfo";
    let failed = |source| HostError::Read { path: MEMINFO, source };
    let cores = std::thread::available_parallelism().map_err(failed)?.get() as u64;
    let memory = total_memory(&fs::read_to_string(MEMINFO).map_err(failed)?);
    let memory = memory.ok_or_else(|| failed(std::io::Error::other("it has no line MemTotal")))?;
    Ok(NodeInfo {
        id,
        name: config.name.clone(),
        labels: config.labels.clone(),
        cpu: MilliCpu((cores * 1_000).saturating_sub(config.reserved_cpu.0)),
        memory: Bytes(memory.0.saturating_sub(config.reserved_memory.0)),
        address: config.address,
        subnet,
        agent_version: config.version.clone(),
    })
}

/// In KiB there. Source: proc_meminfo(5).
fn total_memory(meminfo: &str) -> Option<Bytes> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(Bytes(kib << 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_kib() {
        assert_eq!(total_memory("MemTotal:       16 kB\nMemFree: 3 kB\n"), Some(Bytes(16 << 10)));
        assert_eq!(total_memory("nothing"), None);
    }
}
