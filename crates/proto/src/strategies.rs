//! Arbitrary values of everything that is converted: any value that the types and their documentation allow.

mod commands;
mod observed;
mod spec;
mod state;

use std::{collections::BTreeMap, net::Ipv4Addr, num::NonZeroU32};

use model::{
    Bytes, Digest, Level, MilliCpu, Millis, Name, NodeId, ReplicaId, RevisionNumber, Slot, Timestamp,
};
use proptest::{collection::btree_map, prelude::*};

pub(crate) use self::{commands::*, observed::*, spec::*, state::*};

pub(crate) fn name() -> impl Strategy<Value = Name> {
    "[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?".prop_map(|text| Name::new(&text).unwrap())
}

pub(crate) fn level() -> impl Strategy<Value = Level> {
    (1..=u32::MAX).prop_map(Level)
}

pub(crate) fn text() -> impl Strategy<Value = String> {
    "\\PC{0,6}"
}

fn map() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(text(), text(), 0..3)
}

fn digest() -> impl Strategy<Value = Digest> {
    "sha256:[0-9a-f]{64}".prop_map(|text| text.parse().unwrap())
}

fn address() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from)
}

fn slot() -> impl Strategy<Value = Slot> {
    any::<NonZeroU32>().prop_map(Slot)
}

fn number() -> impl Strategy<Value = RevisionNumber> {
    any::<u64>().prop_map(RevisionNumber)
}

fn replica_id() -> impl Strategy<Value = ReplicaId> {
    any::<u64>().prop_map(ReplicaId)
}

fn node_id() -> impl Strategy<Value = NodeId> {
    any::<u64>().prop_map(NodeId)
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp)
}

fn span() -> impl Strategy<Value = Millis> {
    any::<u64>().prop_map(Millis)
}

fn size() -> impl Strategy<Value = Bytes> {
    any::<u64>().prop_map(Bytes)
}

fn cpu() -> impl Strategy<Value = MilliCpu> {
    any::<u64>().prop_map(MilliCpu)
}
