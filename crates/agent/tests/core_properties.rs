//! Whatever happens, in whatever order, and whenever the agent dies: in the end runs exactly what is desired, and on the
//! way never two attempts of one container at once, nor a replica that is told to end while it is in the balancer, nor one
//! that is started without the lease that it needs.

#![allow(clippy::unwrap_used)] // Clippy's exemption of tests does not reach the modules of an integration test.

mod world;

use proptest::prelude::*;
use world::{Op, World};

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (0u8..4, 0u8..5).prop_map(|(replica, desired)| Op::Desire { replica, desired }),
        2 => Just(Op::Dispatch),
        1 => Just(Op::DispatchGap),
        25 => any::<u8>().prop_map(Op::Execute),
        2 => any::<u8>().prop_map(Op::ExecuteBadly),
        4 => any::<u8>().prop_map(Op::ContainerExits),
        6 => (0u16..3_000).prop_map(Op::Pass),
        2 => Just(Op::Crash),
        1 => Just(Op::CrashBeforeSave),
        3 => (0u16..8_000).prop_map(Op::Lease),
        1 => Just(Op::HostRestart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn what_is_desired_is_what_runs_in_the_end(ops in prop::collection::vec(op(), 0..250)) {
        let mut world = World::new();
        for op in ops {
            world.perform(op);
        }
        world.settle();
        world.assert_converged();
        world.assert_lease_ends();
    }
}
