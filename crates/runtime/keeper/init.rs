//! PID 1 inside a container: starts the application, reaps what nobody else does, passes signals on.
//!
//! The launcher has done everything else before: user, capabilities, seccomp and limits are already those of the
//! application. Arguments: 1 the channel on which a failed exec is told (it closes when exec worked), then for
//! `wharf-init` 2 the channel for the application's ending, then the path to execute and the application's own
//! argument vector.

use crate::exit::Ending;
use crate::sys::{self, Args};

/// Says on the failure channel that what follows is an errno from exec; see `crates/runtime/src/start/sync.rs`.
const EXEC_FAILED: u8 = 2;

pub fn run(args: &Args) -> ! {
    let failure = args.number(1) as i32;
    let report = args.number(2) as i32;
    sys::close_on_exec(failure);
    sys::close_on_exec(report);
    sys::block_signals(true);
    sys::set_name(b"wharf-init\0");

    let app = match sys::fork() {
        0 => {
            sys::block_signals(false);
            execute(args, failure, 3)
        }
        error if error < 0 => {
            tell(failure, error);
            sys::exit(71)
        }
        pid => pid as i32,
    };
    // Not before the fork: the application is an ordinary process, only init must not be traced or read.
    sys::forbid_dumps();
    sys::close(failure);
    loop {
        match sys::next_signal() {
            sys::SIGCHLD => reap(app, report),
            signal => sys::kill(app, signal),
        }
    }
}

/// Turns into the application: the container without init.
pub fn run_exec(args: &Args) -> ! {
    let failure = args.number(1) as i32;
    sys::close_on_exec(failure);
    execute(args, failure, 2)
}

fn execute(args: &Args, failure: i32, path_at: usize) -> ! {
    let error = match args.get(path_at) {
        Some(path) => sys::execute(path, args.rest(path_at + 1), args.environment()),
        None => -22,
    };
    tell(failure, error);
    sys::exit(127)
}

fn tell(failure: i32, error: isize) {
    let mut message = [EXEC_FAILED; 5];
    message[1..].copy_from_slice(&(-error as i32).to_le_bytes());
    sys::write(failure, &message);
}

/// Reaps everything that has ended; when the application is among it, so does the container.
fn reap(app: i32, report: i32) {
    loop {
        let (pid, status) = sys::wait(-1, sys::WNOHANG);
        if pid <= 0 {
            return;
        }
        if pid as i32 == app {
            let ending = Ending::of_status(status);
            sys::write(report, &ending.encode());
            sys::exit(match ending {
                Ending::Code(code) => code,
                Ending::Signal(signal) => 128 + signal,
            });
        }
    }
}
