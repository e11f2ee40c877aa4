//! Containers on the real host: every test starts some and looks at what they see, leave and cost.
//!
//! Run as root. `cargo test -p runtime --test host NAME` runs the tests whose name contains NAME.
//!
//! All of them run three times: with what this kernel has, without what Linux 6.1 lacks, and without everything that came
//! after 5.10. A `WHARF_WITHOUT` in the environment runs them once, without what it names.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod adopt;
mod errors;
mod exec;
mod exits;
mod fixture;
mod hostile;
mod isolation;
mod kernels;
mod limits;
mod logs;
mod unified;
mod userns;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};
use std::time::Instant;

use fixture::Host;

type Test = (&'static str, fn(&Host));

fn main() -> ExitCode {
    if let Some(order) = adopt::owner_order() {
        return adopt::run_owner(&order);
    }
    if let Some(order) = unified::order() {
        return unified::run(&order);
    }
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let host = Host::new();
    let suites: [&[Test]; 11] = [
        isolation::TESTS,
        limits::TESTS,
        exits::TESTS,
        logs::TESTS,
        exec::TESTS,
        adopt::TESTS,
        hostile::TESTS,
        errors::TESTS,
        userns::TESTS,
        kernels::TESTS,
        unified::TESTS,
    ];
    let mut failed = Vec::new();
    for (name, test) in suites.into_iter().flatten().filter(|(name, _)| name.contains(&filter)) {
        let begun = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| test(&host)));
        println!(
            "test {name} ... {} ({} ms)",
            if outcome.is_ok() { "ok" } else { "FAILED" },
            begun.elapsed().as_millis()
        );
        if outcome.is_err() {
            failed.push(*name);
        }
        host.clean();
    }
    drop(host);
    if !failed.is_empty() {
        println!("failed: {failed:?}");
        return ExitCode::FAILURE;
    }
    if std::env::var_os(kernels::WITHOUT).is_some() { ExitCode::SUCCESS } else { on_older_kernels() }
}

/// This binary again, once for each older kernel.
fn on_older_kernels() -> ExitCode {
    for without in [kernels::WHAT_6_1_LACKS, "all"] {
        println!("\nwithout {without}:");
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(std::env::args().skip(1)).env(kernels::WITHOUT, without);
        if !again.status().unwrap().success() {
            println!("failed without {without}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
