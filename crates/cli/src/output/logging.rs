//! What the daemons say of themselves: lines on standard error, for the journal.

use tracing_subscriber::EnvFilter;

/// `WHARF_LOG` chooses what is said, such as `debug` or `agent=debug,warn`; `info` without it.
pub fn start() {
    let filter = EnvFilter::try_from_env("WHARF_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
}
