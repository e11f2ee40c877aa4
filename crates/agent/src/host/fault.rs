//! Whose trouble an error is. What the node has run out of is never held against a replica.

use std::{error::Error, io};

use runtime::{Failure, StartError, Step};
use rustix::io::Errno;

use super::chain;
use crate::core::{Fault, Setback};

/// What the kernel says when there is too little of something for now: descriptors, memory, room, local ports; or when a
/// disk fails. Source: errno(3).
const SHORTAGES: [Errno; 8] = [
    Errno::MFILE,
    Errno::NFILE,
    Errno::NOMEM,
    Errno::NOBUFS,
    Errno::NOSPC,
    Errno::DQUOT,
    Errno::IO,
    Errno::ADDRNOTAVAIL,
];

/// With all its causes in words.
pub(crate) fn of_node(error: &(dyn Error + 'static)) -> Setback {
    Setback::of_node(chain(error))
}

/// The node's if one of the causes is a shortage, else the replica's.
pub(crate) fn judge(error: &(dyn Error + 'static)) -> Setback {
    let mut causes = std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source());
    let fault = if causes.any(is_shortage) { Fault::Node } else { Fault::Replica };
    Setback { reason: chain(error), fault }
}

/// Of a container, or of a command in one.
///
/// A limit so small that not even the start fits into it looks like a node without memory: it is then tried again until
/// the rollout's own deadline, with its reason in the replica's message.
pub(crate) fn judge_start(error: &StartError) -> Setback {
    let fault = match error {
        StartError::NoLauncher | StartError::Io(_) => Fault::Node,
        StartError::Failed(Failure { step: Step::RunDirectory | Step::Log, .. }) => Fault::Node,
        StartError::Failed(failure) if failure.errno.is_some_and(is_shortage_number) => Fault::Node,
        // What died on the way most likely met its own memory limit.
        StartError::Failed(_)
        | StartError::Lost
        | StartError::Plan(_)
        | StartError::Seccomp(_)
        | StartError::Exists(_)
        | StartError::NotRunning(_) => Fault::Replica,
    };
    Setback { reason: chain(error), fault }
}

fn is_shortage(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error).is_some_and(is_shortage_number)
}

fn is_shortage_number(number: i32) -> bool {
    SHORTAGES.contains(&Errno::from_raw_os_error(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_node_ran_out_of_is_its_own_trouble() {
        let failed = |step, errno: Errno| {
            let errno = Some(errno.raw_os_error());
            StartError::Failed(Failure { step, subject: "x".into(), reason: "no".into(), errno })
        };
        for (error, fault) in [
            (failed(Step::Namespaces, Errno::NFILE), Fault::Node),
            (failed(Step::Rootfs, Errno::NOMEM), Fault::Node),
            (failed(Step::Log, Errno::ACCESS), Fault::Node),
            (failed(Step::Mount, Errno::NOENT), Fault::Replica),
            (failed(Step::Exec, Errno::NOENT), Fault::Replica),
            (StartError::NoLauncher, Fault::Node),
            (StartError::Io(Errno::MFILE.into()), Fault::Node),
            (StartError::Lost, Fault::Replica),
        ] {
            assert_eq!(judge_start(&error).fault, fault, "{error:?}");
        }
        assert_eq!(judge(&io::Error::from(Errno::MFILE)).fault, Fault::Node);
        assert_eq!(judge(&io::Error::from(Errno::CONNREFUSED)).fault, Fault::Replica);
    }

    #[test]
    fn a_shortage_is_found_below_other_errors() {
        let path = std::path::PathBuf::from("/x");
        let source = io::Error::from(Errno::NOSPC);
        assert_eq!(judge(&super::super::HostError::Write { path, source }).fault, Fault::Node);
    }
}
