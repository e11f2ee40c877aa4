//! How long placing takes: 5,000 replicas of 50 services on 100 nodes, and the same when nothing fits.
//!
//! `cargo run --release -p scheduler --example bench`

use std::{collections::BTreeMap, time::Instant};

use model::{Bytes, Level, MilliCpu, Name, NodeId, PlacementRules, ReplicaId, RevisionNumber, ServiceKey};
use scheduler::{Amount, Decision, NodeView, Pending, place};

fn main() -> Result<(), model::id::NameError> {
    let roomy = Amount { cpu: MilliCpu(64_000), memory: Bytes(256 << 30) };
    measure("room for all", &nodes(100, roomy), &pending(5_000, 50)?);
    measure("room for none", &nodes(100, Amount::NOTHING), &pending(5_000, 50)?);
    Ok(())
}

fn measure(what: &str, nodes: &[NodeView], pending: &[Pending]) {
    // The only clock is here, in a bench; the crate itself reads none.
    #[allow(clippy::disallowed_methods)]
    let begin = Instant::now();
    let decisions = place(pending, nodes);
    let took = begin.elapsed();
    let placed = decisions.iter().filter(|decision| matches!(decision, Decision::Placed { .. })).count();
    println!("{what}: {} replicas on {} nodes, {placed} placed, {took:.1?}", pending.len(), nodes.len());
}

fn nodes(count: u64, capacity: Amount) -> Vec<NodeView> {
    let node = |id| NodeView {
        id: NodeId(id),
        ready: true,
        open: true,
        level: Level::FIRST,
        labels: BTreeMap::new(),
        capacity,
        allocated: Amount::NOTHING,
        replicas_of: BTreeMap::new(),
        replicas: 0,
    };
    (0..count).map(node).collect()
}

fn pending(count: u64, services: u64) -> Result<Vec<Pending>, model::id::NameError> {
    let one = |i: u64| {
        let service =
            ServiceKey { namespace: Name::new("default")?, name: Name::new(&format!("s{}", i % services))? };
        let wants = Amount { cpu: MilliCpu(250), memory: Bytes(512 << 20) };
        let (rules, revision, frees) = (PlacementRules::default(), RevisionNumber(1), Vec::new());
        Ok(Pending { replica: ReplicaId(i), service, revision, rules, needs: Level::FIRST, wants, frees })
    };
    (0..count).map(one).collect()
}
