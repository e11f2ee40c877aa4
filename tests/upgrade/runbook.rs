//! `deploy/upgrade.md`, followed line by line.

use tests::{Several, program, runbook};

use crate::{Service, load_image, pids, previous};

#[test]
fn the_page_on_upgrades_leads_from_one_build_to_the_next() {
    let servers = ["server1", "server2"];
    let mut several = Several::of_program(previous(), 2, 1);
    load_image(&several);
    several.ok(&["node", "label", "agent1", "home=web"]);
    several.ok(&["apply", "--wait", "-f", &Service::at_home("web").write(&several)]);
    let before = pids(&several, "web", 2);
    std::os::unix::fs::symlink(program(), several.folder().join("wharf.new")).expect("a link");

    let commands = |heading| runbook::commands("upgrade.md", heading);
    runbook::follow(&mut several, "server1", &commands("Before"), &[], &servers);
    for server in servers {
        runbook::follow(&mut several, server, &commands("A server"), &[], &servers);
    }
    tests::wait_for("the level in use to rise", crate::SOON, || {
        let said = runbook::follow(
            &mut several,
            "server1",
            &commands("When all servers are upgraded"),
            &[],
            &servers,
        );
        if said.contains("level    2\n") { Ok(()) } else { Err(said) }
    });
    runbook::follow(&mut several, "agent1", &commands("An agent"), &[], &servers);
    several.wait_for_nodes(1);
    assert_eq!(pids(&several, "web", 2), before);
    several.end();
}
