//! System call filters: the default profile, and how an OCI profile becomes a BPF program.
//!
//! Compiled once and remembered: most containers of a host have the same profile.

mod compile;
mod names;
mod profile;

pub use compile::SeccompError;
pub use profile::default_profile;

use std::sync::Mutex;

use oci_spec::runtime::LinuxSeccomp;

/// Programs of the profiles used lately.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    /// The latest last. Comparing a profile costs less than hashing it, and there are few.
    programs: Mutex<Vec<(LinuxSeccomp, Vec<u8>)>>,
}

impl Cache {
    const ENTRIES: usize = 16;

    /// The profile's program as raw `sock_filter`s.
    pub(crate) fn program(&self, profile: &LinuxSeccomp) -> Result<Vec<u8>, SeccompError> {
        if let Ok(programs) = self.programs.lock()
            && let Some((_, program)) = programs.iter().find(|(known, _)| known == profile)
        {
            return Ok(program.clone());
        }
        let program = compile::compile(profile)?;
        if let Ok(mut programs) = self.programs.lock() {
            if programs.len() >= Cache::ENTRIES {
                programs.remove(0);
            }
            programs.push((profile.clone(), program.clone()));
        }
        Ok(program)
    }
}
