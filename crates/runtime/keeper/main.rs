//! The one tiny binary that stays with a container, and that enters it.
//!
//! It is started under three names, and the name is the mode:
//!
//! * `wharf-keeper`: outside the container, parent of its first process; see `keep.rs`, start reading there.
//! * `wharf-init`: PID 1 inside the container; see `init.rs`.
//! * `wharf-exec`: inside the container, turns into the application at once.
//!
//! No libc, no allocator, no threads: what is resident is a few pages. The image of this binary lives in a sealed
//! memfd, so that nothing in a container can ever reach the agent's own file through `/proc/self/exe`
//! (CVE-2019-5736): the application is always executed from here, never from the launcher.
#![no_std]
#![no_main]

mod deadline;
mod exit;
mod init;
mod keep;
mod log;
mod memory;
mod sys;
mod text;

use sys::Args;

/// Runs the mode that `argv[0]` names; never returns.
fn run(args: Args) -> ! {
    match args.get(0) {
        Some(b"wharf-keeper") => keep::run(&args),
        Some(b"wharf-init") => init::run(&args),
        Some(b"wharf-exec") => init::run_exec(&args),
        _ => sys::exit(64),
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Nobody could read a message; the parent sees the code.
    sys::exit(70)
}
