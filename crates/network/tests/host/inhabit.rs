//! Programs that live in a sandbox as on a host.

use std::{net::Ipv4Addr, process::Command};

use network::{move_in, standing, visit};

use crate::stage::on_stage;

#[test]
fn a_program_lives_there_under_a_name_of_its_own_and_this_process_does_not() {
    on_stage(|stage| {
        assert_eq!(standing(&stage.config.state_dir).unwrap(), []);
        let network = stage.open();
        let sandbox = network.create_sandbox("inn", Ipv4Addr::new(10, 77, 0, 2)).unwrap();
        assert_eq!(standing(&stage.config.state_dir).unwrap(), [("inn".to_string(), sandbox.netns.clone())]);
        let names = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let (here, there) = (names(), visit(&sandbox.netns, names).unwrap());
        assert_ne!(here, there);
        assert_eq!(names(), here);

        let mut command = Command::new("sh");
        command.args(["-c", "hostname; readlink /proc/self/ns/net"]);
        move_in(&mut command, &sandbox.netns, "guest").unwrap();
        // As often as it is started.
        for _ in 0..2 {
            let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
            assert_eq!(said, format!("guest\n{}\n", there.display()));
        }
        assert_ne!(rustix::system::uname().nodename().to_str().unwrap(), "guest");
        assert!(move_in(&mut command, "/nowhere".as_ref(), "guest").is_err());
        network.teardown().unwrap();
    });
}
