//! The host's firewall, as far as it is ours: one table for routing, one that guards the bridge.
//!
//! Everything is written through nfnetlink batches: a change takes microseconds where starting nft(8) takes
//! milliseconds, and a host needs no nft. Start at [`Firewall::publish`]; what stands always is in [`base`].
//!
//! Other programs write to nf_tables too, and some flush it whole (restarting a firewall service does). The
//! kernel counts every transaction of the host: a transaction of ours names the count it was made for, so a
//! foreign one is noticed, and the next [`Firewall::publish`] then writes everything again, in one transaction.

mod base;
mod chains;
mod guard;
mod rule;
pub(crate) mod services;
mod table;
pub(crate) mod tunnel;
mod uapi;

use std::{collections::BTreeMap, net::Ipv4Addr, time::Instant};

use rustix::io::Errno;

use crate::{
    config::Names,
    netlink::{
        Error, Protocol as Netlink, Socket,
        message::{Batch, find, read_u32},
    },
};
pub(crate) use base::Ground;
pub(crate) use chains::dropping_forward_chains;
use services::{Held, Retired, Service, Services};
use table::{Family, Table, header, kind};
use uapi::{attr, msg};

const NFTABLES: u8 = 10; // NFNL_SUBSYS_NFTABLES
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const COMMIT_ATTEMPTS: usize = 20;

/// The two tables of one network and what is known to be in them.
pub(crate) struct Firewall {
    socket: Socket,
    names: Names,
    ground: Ground,
    /// How many transactions the kernel had counted after our last one.
    generation: u32,
    /// Someone else's transaction came in between.
    overtaken: bool,
    /// What the kernel holds; unknown before the first publish and after a failed one.
    held: Option<Held>,
    retired: Retired,
    publications: usize,
    /// Ports of the guard; none at all on a kernel without nf_tables for bridges.
    admitted: Option<BTreeMap<String, Ipv4Addr>>,
}

/// What a publication did. `opened` are services that have backends and, as far as is known, had none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Publication {
    Nothing,
    Changed {
        services: Vec<Service>,
        opened: Vec<Service>,
    },
    /// Everything was written, over an unknown state.
    Rewritten {
        opened: Vec<Service>,
    },
}

impl Firewall {
    /// Writes the standing rules. Services that an earlier process published go on working.
    pub(crate) fn open(
        names: &Names,
        ground: Ground,
        admitted: BTreeMap<String, Ipv4Addr>,
    ) -> Result<Firewall, Error> {
        let mut firewall = Firewall {
            socket: Socket::open(Netlink::Netfilter)?,
            names: names.clone(),
            ground,
            generation: 0,
            overtaken: false,
            held: None,
            retired: Retired::default(),
            publications: 0,
            admitted: Some(admitted),
        };
        firewall.generation = generation(&mut firewall.socket)?;
        let standing = base::standing(names, &firewall.ground);
        match firewall.commit(standing.batch) {
            Err(error) if error.refusal() == Some(Errno::EXIST) => firewall.replace_outdated()?,
            other => other?,
        }
        firewall.write_guard()?;
        firewall.overtaken = false;
        Ok(firewall)
    }

    /// A table of an older version has other shapes under the same names: it is replaced, services and all.
    fn replace_outdated(&mut self) -> Result<(), Error> {
        tracing::warn!(table = self.names.table, "the firewall table has another layout and is replaced");
        let names = self.names.clone();
        let mut table = Table::new(&names.table, Family::Ipv4);
        table.delete();
        let mut batch = table.batch;
        batch.append(base::standing(&names, &self.ground).batch);
        self.commit(batch)
    }

    fn write_guard(&mut self) -> Result<(), Error> {
        let Some(admitted) = &self.admitted else { return Ok(()) };
        let names = self.names.clone();
        let table = guard::standing(&names, admitted);
        match self.commit(table.batch) {
            Err(error) if is_unsupported(&error) => {
                tracing::warn!(
                    "this kernel has no nf_tables for bridges: replicas granted raw sockets can spoof"
                );
                self.admitted = None;
                Ok(())
            }
            other => other,
        }
    }

    /// Makes exactly these services reachable, at one moment.
    pub(crate) fn publish(&mut self, services: Services) -> Result<Publication, Error> {
        self.overtaken |= generation(&mut self.socket)? != self.generation;
        let was_open =
            |service: &Service| self.held.as_ref().is_some_and(|held| held.chains.contains_key(service));
        let has_backends = services.iter().filter(|(_, backends)| !backends.is_empty());
        let opened = has_backends.map(|(service, _)| *service).filter(|service| !was_open(service)).collect();
        let held = match self.held.take() {
            Some(held) if !self.overtaken => held,
            _ => return self.publish_all(services, opened),
        };
        let changed = services::changed(&held.services, &services);
        if changed.is_empty() {
            self.held = Some(held);
            return Ok(Publication::Nothing);
        }
        match self.publish_changes(held, &services, &changed) {
            Ok(()) => Ok(Publication::Changed { services: changed, opened }),
            // Something was changed behind our back; the full set does not depend on what is there.
            Err(error) => {
                tracing::warn!(%error, "the change of published ports was refused, writing all of them");
                self.publish_all(services, opened)
            }
        }
    }

    fn publish_changes(&mut self, held: Held, new: &Services, changed: &[Service]) -> Result<(), Error> {
        let (names, now) = (self.names.clone(), Instant::now());
        let mut first = Table::new(&names.table, Family::Ipv4);
        let resting = self.retired.write_end(&mut first, now);
        let made = services::write_chains(&mut first, changed, new, self.generation, self.publications);
        let mut second = Table::new(&names.table, Family::Ipv4);
        services::write_switch(&mut second, changed, &held, new, &made);
        self.commit(first.batch)?;
        self.retired = resting;
        self.commit(second.batch)?;

        let mut chains = held.chains;
        let left = changed.iter().filter_map(|service| chains.remove(service)).collect::<Vec<_>>();
        self.retired.add(now, left);
        chains.extend(made);
        self.held = Some(Held { services: new.clone(), chains });
        self.publications += 1;
        Ok(())
    }

    /// Writes everything, over an unknown state.
    fn publish_all(&mut self, services: Services, opened: Vec<Service>) -> Result<Publication, Error> {
        self.held = None;
        self.generation = generation(&mut self.socket)?;
        let names = self.names.clone();
        let found = chains::of_services(&mut self.socket, &names.table)?;
        let all: Vec<_> = services.keys().copied().collect();
        let mut first = base::standing(&names, &self.ground);
        let chains = services::write_chains(&mut first, &all, &services, self.generation, self.publications);
        let mut second = Table::new(&names.table, Family::Ipv4);
        services::write_switch_from_unknown(&mut second, &services, &chains);
        self.commit(first.batch)?;
        self.commit(second.batch)?;
        self.write_guard()?;
        self.retired = Retired::default();
        self.retired.add(Instant::now(), found);
        self.held = Some(Held { services, chains });
        self.publications += 1;
        self.overtaken = false;
        Ok(Publication::Rewritten { opened })
    }

    /// Whether sandboxes are kept from speaking with each other's addresses.
    pub(crate) fn guards(&self) -> bool {
        self.admitted.is_some()
    }

    /// Wrapped packets are let in from exactly these hosts.
    pub(crate) fn set_peers(&mut self, peers: Vec<Ipv4Addr>) -> Result<(), Error> {
        let Some(gate) = &mut self.ground.gate else { return Ok(()) };
        if gate.peers.as_ref() == Some(&peers) {
            return Ok(());
        }
        let names = self.names.clone();
        let mut table = Table::new(&names.table, Family::Ipv4);
        tunnel::fill(&mut table, &peers);
        gate.peers = Some(peers);
        // The table was flushed by someone: the next publication writes it with these peers.
        absent_is_fine(self.commit(table.batch))
    }

    /// Lets a port of the bridge speak with its address.
    pub(crate) fn admit(&mut self, port: &str, address: Ipv4Addr) -> Result<(), Error> {
        let Some(admitted) = &mut self.admitted else { return Ok(()) };
        admitted.insert(port.to_string(), address);
        let names = self.names.clone();
        match self.commit(guard::admit(&names, port, address).batch) {
            // The table was flushed by someone: writing it anew admits this port too.
            Err(error) if error.refusal() == Some(Errno::NOENT) => self.write_guard(),
            other => other,
        }
    }

    /// Takes the word from a port; fine if it never had it.
    pub(crate) fn expel(&mut self, port: &str, address: Ipv4Addr) -> Result<(), Error> {
        let Some(admitted) = &mut self.admitted else { return Ok(()) };
        admitted.remove(port);
        let names = self.names.clone();
        absent_is_fine(self.commit(guard::expel(&names, port, address).batch))
    }

    /// Deletes both tables; fine if they are gone.
    pub(crate) fn remove(&mut self) -> Result<(), Error> {
        let names = self.names.clone();
        for family in [Family::Ipv4, Family::Bridge] {
            let mut table = Table::new(&names.table, family);
            table.delete();
            match self.commit(table.batch) {
                Err(error) if is_unsupported(&error) => {}
                other => absent_is_fine(other)?,
            }
        }
        self.held = None;
        self.retired = Retired::default();
        self.admitted = Some(BTreeMap::new());
        Ok(())
    }

    /// One transaction: all of it takes effect, at one moment, or none.
    fn commit(&mut self, mut messages: Batch) -> Result<(), Error> {
        if messages.is_empty() {
            return Ok(());
        }
        messages.acknowledge();
        for attempt in 1.. {
            let mut batch = Batch::new();
            // struct nfgenmsg: no family, version 0, the subsystem in network byte order.
            let envelope = [0, 0, 0, NFTABLES];
            batch.add("begin a firewall transaction", BATCH_BEGIN, 0, &envelope, |begin| {
                begin.be32(attr::BATCH_GENID, self.generation);
            });
            batch.append(messages.clone());
            batch.add("end a firewall transaction", BATCH_END, 0, &envelope, |_| {});
            match self.socket.execute(&mut batch) {
                Err(error) if is_overtaken(&error) && attempt < COMMIT_ATTEMPTS => {
                    self.overtaken = true;
                    self.generation = generation(&mut self.socket)?;
                }
                Err(error) => return Err(error),
                Ok(()) => {
                    // The count skips zero when it wraps.
                    self.generation = self.generation.checked_add(1).unwrap_or(1);
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// The kernel's count of transactions in this network namespace.
fn generation(socket: &mut Socket) -> Result<u32, Error> {
    let mut batch = Batch::new();
    batch.add("tell the firewall's generation", kind(msg::GETGEN), 0, &header(Family::Unspecified), |_| {});
    let mut generation = 0;
    socket.converse(&mut batch, |_, body| {
        if let Some(id) = body.get(4..).and_then(|rest| find(rest, &[attr::GEN_ID])).and_then(read_u32) {
            generation = u32::from_be_bytes(id);
        }
    })?;
    Ok(generation)
}

/// ERESTART: the transaction was made for an older count.
fn is_overtaken(error: &Error) -> bool {
    error.refusal().is_some_and(|errno| errno.raw_os_error() == libc::ERESTART)
}

fn is_unsupported(error: &Error) -> bool {
    matches!(error.refusal(), Some(Errno::OPNOTSUPP | Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT))
}

fn absent_is_fine(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.refusal() == Some(Errno::NOENT) => Ok(()),
        other => other,
    }
}
