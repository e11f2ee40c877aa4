//! What the daemons say of themselves: lines on standard error, for the journal.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// `WHARF_LOG` chooses what is said, such as `debug` or `agent=debug,warn`; `info` without it.
pub fn start() {
    let filter = EnvFilter::try_from_env("WHARF_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
}
