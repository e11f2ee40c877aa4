//! Which sandbox has which address.
//!
//! Pure. Invariants: two ids never hold the same address, an id holds one address, only usable addresses of
//! the subnet are given. A released address rests as long as possible: peers and caches that still know it
//! must not reach a stranger. So never-used addresses come first, then those released longest ago.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::Ipv4Addr,
};

use crate::Subnet;

/// Why no address was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error(
        "all {count} addresses of {subnet} are taken: choose a larger subnet for this node or run fewer replicas"
    )]
    Exhausted { subnet: Subnet, count: usize },
    #[error("{address} is not an address that a sandbox may have in {subnet}")]
    Outside { address: Ipv4Addr, subnet: Subnet },
    #[error("{address} belongs to `{holder}` and cannot be reserved for `{id}`")]
    Taken { address: Ipv4Addr, holder: String, id: String },
}

/// Allocates addresses of one subnet to ids.
#[derive(Debug, Clone)]
pub struct Addresses {
    subnet: Subnet,
    by_id: BTreeMap<String, Ipv4Addr>,
    by_address: BTreeMap<Ipv4Addr, String>,
    /// Released, the longest-unused first.
    resting: VecDeque<Ipv4Addr>,
    rests: BTreeSet<Ipv4Addr>,
    /// Where the search for a never-used address goes on.
    cursor: Ipv4Addr,
}

impl Addresses {
    pub fn new(subnet: Subnet) -> Addresses {
        Addresses {
            subnet,
            by_id: BTreeMap::new(),
            by_address: BTreeMap::new(),
            resting: VecDeque::new(),
            rests: BTreeSet::new(),
            cursor: subnet.first_and_last_usable().0,
        }
    }

    /// The id's address; the one it holds already, if it does.
    pub fn allocate(&mut self, id: &str) -> Result<Ipv4Addr, AddressError> {
        if let Some(&address) = self.by_id.get(id) {
            return Ok(address);
        }
        let address = self
            .take_fresh()
            .or_else(|| self.take_rested())
            .ok_or(AddressError::Exhausted { subnet: self.subnet, count: self.capacity() })?;
        self.hold(id, address);
        Ok(address)
    }

    /// Records that an id, found running, has this address. After a restart the addresses before the highest
    /// known one may have been used and released moments ago, so fresh ones are looked for behind it.
    pub fn reserve(&mut self, id: &str, address: Ipv4Addr) -> Result<(), AddressError> {
        if !self.subnet.is_usable(address) {
            return Err(AddressError::Outside { address, subnet: self.subnet });
        }
        match self.by_address.get(&address) {
            Some(holder) if holder == id => return Ok(()),
            Some(holder) => {
                return Err(AddressError::Taken { address, holder: holder.clone(), id: id.to_string() });
            }
            None => {}
        }
        self.release(id);
        if self.rests.remove(&address) {
            self.resting.retain(|rested| *rested != address);
        }
        self.cursor = self.cursor.max(self.after(address));
        self.hold(id, address);
        Ok(())
    }

    /// Takes the id's address back; nothing happens if it has none.
    pub fn release(&mut self, id: &str) {
        if let Some(address) = self.by_id.remove(id) {
            self.by_address.remove(&address);
            self.rests.insert(address);
            self.resting.push_back(address);
        }
    }

    pub fn get(&self, id: &str) -> Option<Ipv4Addr> {
        self.by_id.get(id).copied()
    }

    fn hold(&mut self, id: &str, address: Ipv4Addr) {
        self.by_id.insert(id.to_string(), address);
        self.by_address.insert(address, id.to_string());
    }

    fn take_fresh(&mut self) -> Option<Ipv4Addr> {
        if self.by_address.len() + self.rests.len() >= self.capacity() {
            return None;
        }
        // Ends: the cursor walks in a circle on which at least one address was never used.
        loop {
            let address = self.cursor;
            self.cursor = self.after(address);
            if !self.by_address.contains_key(&address) && !self.rests.contains(&address) {
                return Some(address);
            }
        }
    }

    fn take_rested(&mut self) -> Option<Ipv4Addr> {
        let address = self.resting.pop_front()?;
        self.rests.remove(&address);
        Some(address)
    }

    fn after(&self, address: Ipv4Addr) -> Ipv4Addr {
        let (first, last) = self.subnet.first_and_last_usable();
        if address >= last { first } else { Ipv4Addr::from_bits(address.to_bits() + 1) }
    }

    fn capacity(&self) -> usize {
        let (first, last) = self.subnet.first_and_last_usable();
        (last.to_bits() + 1).saturating_sub(first.to_bits()) as usize
    }
}
