//! What a container sees, and what it cannot do.

use runtime::Ending;
use serde_json::json;

use crate::Test;
use crate::fixture::{Host, spec};

pub(crate) const TESTS: &[Test] = &[("isolation::own_namespaces", own_namespaces)];

fn own_namespaces(host: &Host) {
    let (record, log) = host.run("echo $$; hostname; ls /; cat /proc/1/comm; mount");
    eprintln!("{log:#?}");
    assert_eq!(record.ending, Ending::Code(0));
}
