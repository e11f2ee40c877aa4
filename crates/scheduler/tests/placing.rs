//! What must never be, over random clusters.
#![expect(clippy::unwrap_used, reason = "a test fails where it goes wrong")]

use std::collections::BTreeMap;

use model::{Bytes, Level, MilliCpu, Name, NodeId, PlacementRules, ReplicaId, RevisionNumber, ServiceKey};
use proptest::prelude::*;
use scheduler::{Amount, Decision, NodeView, Pending, place};

fn key(name: &str) -> ServiceKey {
    ServiceKey { namespace: Name::new("default").unwrap(), name: Name::new(name).unwrap() }
}

fn amount(cpu: u64, memory: u64) -> Amount {
    Amount { cpu: MilliCpu(cpu), memory: Bytes(memory) }
}

fn any_node(id: u64) -> impl Strategy<Value = NodeView> {
    let capacity = (0..4_000u64, 0..4_000u64);
    // An agent may come back with less than is already placed on it.
    let allocated = (0..5_000u64, 0..5_000u64);
    let labels = any_labels();
    (capacity, allocated, any::<[bool; 2]>(), 0..4, labels, 0..3u32).prop_map(
        move |(capacity, used, flags, cordoned, labels, has)| NodeView {
            id: NodeId(id),
            ready: flags[0],
            open: cordoned > 0,
            level: Level::FIRST,
            labels,
            capacity: amount(capacity.0, capacity.1),
            allocated: if flags[1] { amount(used.0, used.1) } else { Amount::NOTHING },
            replicas_of: BTreeMap::from([(key("a"), BTreeMap::from([(RevisionNumber(1), has)]))]),
            replicas: has,
        },
    )
}

fn any_labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map("zone|disk", "[xy]", 0..3)
}

fn any_rules() -> impl Strategy<Value = PlacementRules> {
    (prop::collection::btree_map("zone|disk", "[xy]", 0..2), prop::option::of("zone"))
        .prop_map(|(nodes, spread)| PlacementRules { nodes, spread })
}

fn any_nodes() -> impl Strategy<Value = Vec<NodeView>> {
    (0..8u64).prop_flat_map(|count| (0..count).map(any_node).collect::<Vec<_>>())
}

fn any_pending() -> impl Strategy<Value = Vec<Pending>> {
    let one = ("[ab]", 1..3u64, 0..1_500u64, 0..1_500u64);
    // Of one service all have the same rules.
    (prop::collection::vec(one, 0..40), any_rules(), any_rules()).prop_map(|(all, of_a, of_b)| {
        let pending = all.into_iter().enumerate().map(|(i, (name, revision, cpu, memory))| Pending {
            rules: if name == "a" { of_a.clone() } else { of_b.clone() },
            replica: ReplicaId(i as u64),
            service: key(&name),
            revision: RevisionNumber(revision),
            needs: Level::FIRST,
            wants: amount(cpu, memory),
            frees: Vec::new(),
        });
        pending.collect()
    })
}

fn takes(rules: &PlacementRules, node: &NodeView) -> bool {
    node.ready && node.open && rules.nodes.iter().all(|(key, value)| node.labels.get(key) == Some(value))
}

fn fits(pending: &Pending, node: &NodeView) -> bool {
    let (free, wants) = (node.free(), pending.wants);
    takes(&pending.rules, node) && wants.cpu <= free.cpu && wants.memory <= free.memory
}

proptest! {
    /// Replays the decisions one by one with the plainest accounting.
    #[test]
    fn capacity_is_never_exceeded_and_what_fits_is_placed(nodes in any_nodes(), pending in any_pending()) {
        let decisions = place(&pending, &nodes);
        prop_assert_eq!(decisions.len(), pending.len());
        let mut left: BTreeMap<NodeId, NodeView> = nodes.iter().map(|node| (node.id, node.clone())).collect();
        for (decision, wanted) in decisions.iter().zip(&pending) {
            match decision {
                Decision::Placed { replica, node } => {
                    prop_assert_eq!(*replica, wanted.replica);
                    let node = left.get_mut(node).unwrap();
                    prop_assert!(fits(wanted, node), "{:?} on {:?}", wanted, node);
                    node.allocated = node.allocated.plus(wanted.wants);
                }
                Decision::Unplaceable { replica, reason } => {
                    prop_assert_eq!(*replica, wanted.replica);
                    prop_assert!(!left.values().any(|node| fits(wanted, node)), "{:?}", wanted);
                    let ready = left.values().filter(|node| takes(&wanted.rules, node)).count() as u32;
                    prop_assert_eq!(reason.nodes, nodes.len() as u32);
                    let ruled_out = reason.not_ready + reason.cordoned + reason.lacking.values().sum::<u32>();
                    prop_assert_eq!(ruled_out, reason.nodes - ready);
                    prop_assert!(reason.too_little_cpu + reason.too_little_memory >= ready, "{}", reason);
                    prop_assert!(reason.too_little_cpu.max(reason.too_little_memory) <= ready, "{}", reason);
                }
            }
        }
    }

    #[test]
    fn the_order_of_the_nodes_does_not_matter(
        (nodes, shuffled) in any_nodes().prop_flat_map(|nodes| (Just(nodes.clone()), Just(nodes).prop_shuffle())),
        pending in any_pending(),
    ) {
        prop_assert_eq!(place(&pending, &nodes), place(&pending, &shuffled));
    }

    #[test]
    fn with_room_everywhere_a_service_is_spread_evenly(
        nodes in 1..12u64,
        services in prop::collection::vec((1..30usize, 0..1_000u64), 1..4),
    ) {
        let nodes: Vec<NodeView> = (0..nodes)
            .map(|id| NodeView {
                id: NodeId(id),
                ready: true,
                open: true,
                level: Level::FIRST,
                labels: BTreeMap::new(),
                capacity: amount(1_000_000, 1_000_000),
                allocated: Amount::NOTHING,
                replicas_of: BTreeMap::new(),
                replicas: 0,
            })
            .collect();
        let mut pending = Vec::new();
        for (nth, (replicas, cpu)) in services.iter().enumerate() {
            pending.extend((0..*replicas).map(|i| Pending {
                replica: ReplicaId((nth * 100 + i) as u64),
                service: key(&format!("s{nth}")),
                revision: RevisionNumber(1),
                rules: PlacementRules::default(),
                needs: Level::FIRST,
                wants: amount(*cpu, 10),
                frees: Vec::new(),
            }));
        }
        let mut on: BTreeMap<ServiceKey, BTreeMap<NodeId, u32>> = BTreeMap::new();
        for (decision, wanted) in place(&pending, &nodes).iter().zip(&pending) {
            let Decision::Placed { node, .. } = decision else { panic!("{decision:?}") };
            *on.entry(wanted.service.clone()).or_default().entry(*node).or_default() += 1;
        }
        for counts in on.values() {
            let count = |node: &NodeView| counts.get(&node.id).copied().unwrap_or(0);
            let (least, most) = (nodes.iter().map(count).min().unwrap(), nodes.iter().map(count).max().unwrap());
            prop_assert!(most - least <= 1, "{:?}", counts);
        }
    }

    /// However the nodes are spread over zones, and however many a zone has.
    #[test]
    fn with_room_everywhere_a_service_is_spread_evenly_over_a_label(
        zones in prop::collection::vec(prop::option::of("[xyz]"), 1..12),
        replicas in 1..40u64,
    ) {
        let node = |(id, zone): (usize, &Option<String>)| NodeView {
            id: NodeId(id as u64),
            ready: true,
            open: true,
            level: Level::FIRST,
            labels: zone.iter().map(|zone| ("zone".to_owned(), zone.clone())).collect(),
            capacity: amount(1_000_000, 1_000_000),
            allocated: Amount::NOTHING,
            replicas_of: BTreeMap::new(),
            replicas: 0,
        };
        let nodes: Vec<NodeView> = zones.iter().enumerate().map(node).collect();
        let pending: Vec<Pending> = (0..replicas).map(|i| Pending {
            replica: ReplicaId(i),
            service: key("a"),
            revision: RevisionNumber(1),
            rules: PlacementRules { spread: Some("zone".to_owned()), ..PlacementRules::default() },
            needs: Level::FIRST,
            wants: amount(10, 10),
            frees: Vec::new(),
        }).collect();
        let mut of: BTreeMap<&Option<String>, u32> = zones.iter().map(|zone| (zone, 0)).collect();
        for decision in place(&pending, &nodes) {
            let Decision::Placed { node, .. } = decision else { panic!("{decision:?}") };
            *of.get_mut(&zones[node.0 as usize]).unwrap() += 1;
        }
        let (least, most) = (of.values().min().unwrap(), of.values().max().unwrap());
        prop_assert!(most - least <= 1, "{:?}", of);
    }
}
