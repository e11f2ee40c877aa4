//! What must never be true of addresses, whatever is asked in whatever order.

use std::{collections::BTreeMap, net::Ipv4Addr};

use network::{Addresses, Subnet};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Ask {
    Allocate(u8),
    Release(u8),
    Reserve(u8, u8),
}

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    let one = prop_oneof![
        3 => (0..20u8).prop_map(Ask::Allocate),
        2 => (0..20u8).prop_map(Ask::Release),
        1 => (0..20u8, 0..18u8).prop_map(|(id, last)| Ask::Reserve(id, last)),
    ];
    prop::collection::vec(one, 0..200)
}

proptest! {
    /// A plain model beside the real thing: who holds what, and when each address was last let go.
    #[test]
    fn no_address_has_two_holders_and_none_returns_early(asks in asks()) {
        let subnet: Subnet = "10.0.0.0/28".parse().unwrap(); // 13 usable addresses.
        let mut addresses = Addresses::new(subnet);
        let mut held = BTreeMap::<String, Ipv4Addr>::new();
        let mut let_go = BTreeMap::<Ipv4Addr, usize>::new();
        for (time, ask) in asks.into_iter().enumerate() {
            match ask {
                Ask::Allocate(id) => {
                    let id = id.to_string();
                    match addresses.allocate(&id) {
                        Ok(address) if held.contains_key(&id) => prop_assert_eq!(held[&id], address),
                        Ok(address) => {
                            prop_assert!(subnet.is_usable(address));
                            prop_assert!(!held.values().any(|other| *other == address));
                            let age = |address: &Ipv4Addr| let_go.get(address).copied();
                            for other in (2..15).map(|last| Ipv4Addr::new(10, 0, 0, last)) {
                                let free = !held.values().any(|held| *held == other);
                                prop_assert!(!free || age(&address) <= age(&other), "{other} was free for longer");
                            }
                            held.insert(id, address);
                        }
                        Err(_) => prop_assert_eq!(held.len(), 13),
                    }
                }
                Ask::Release(id) => {
                    addresses.release(&id.to_string());
                    if let Some(address) = held.remove(&id.to_string()) {
                        let_go.insert(address, time);
                    }
                }
                Ask::Reserve(id, last) => {
                    let (id, address) = (id.to_string(), Ipv4Addr::new(10, 0, 0, last));
                    let holder = held.iter().find(|(_, held)| **held == address).map(|(id, _)| id.clone());
                    let possible = subnet.is_usable(address) && holder.is_none_or(|holder| holder == id);
                    prop_assert_eq!(addresses.reserve(&id, address).is_ok(), possible);
                    if possible && let Some(old) = held.insert(id, address) && old != address {
                        let_go.insert(old, time);
                    }
                }
            }
            for (id, address) in &held {
                prop_assert_eq!(addresses.get(id), Some(*address));
            }
        }
    }
}

#[test]
fn after_a_restart_fresh_addresses_come_from_behind_the_known_ones() {
    let mut addresses = Addresses::new("10.0.0.0/24".parse().unwrap());
    addresses.reserve("old", Ipv4Addr::new(10, 0, 0, 40)).unwrap();
    assert_eq!(addresses.allocate("new").unwrap(), Ipv4Addr::new(10, 0, 0, 41));
    let error = addresses.reserve("other", Ipv4Addr::new(10, 0, 0, 40)).unwrap_err().to_string();
    assert_eq!(error, "10.0.0.40 belongs to `old` and cannot be reserved for `other`");
    let error = addresses.reserve("other", Ipv4Addr::new(10, 0, 1, 40)).unwrap_err().to_string();
    assert_eq!(error, "10.0.1.40 is not an address that a sandbox may have in 10.0.0.0/24");
}
