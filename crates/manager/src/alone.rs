//! What one server knows becomes the beginning of a cluster of that server alone: after the others were lost for good, and
//! from a backup.
//!
//! Every entry of its log counts, also those that it does not know to be committed. It cannot tell: a follower hears of a
//! commit later than the user does, and what a user was told must not be lost. What nobody was told may come true by it, as
//! after any leader's crash.

use consensus::{Membership, Payload, Recovered, Snapshot, SnapshotMeta};
use model::{Member, MemberId, MemberPart, Timestamp, Version};
use store::{Command, State};

use crate::{Codec, CodecError, log::decode_snapshot};

/// The state after everything that is in this log.
pub fn replay<C: Codec>(codec: &C, recovered: &Recovered) -> Result<State, CodecError> {
    let snapshot = recovered.snapshot.as_ref();
    let mut state =
        snapshot.map(|snapshot| decode_snapshot(codec, snapshot)).transpose()?.unwrap_or_default();
    for entry in &recovered.entries {
        let Payload::Command(bytes) = &entry.payload else { continue };
        let command = codec.decode_command(bytes);
        let command = command.map_err(|error| CodecError(format!("log entry {}: {error}", entry.index)))?;
        // A rejected command changes nothing, then as now.
        let _ = state.apply(Version(entry.index), command);
    }
    Ok(state)
}

/// This state, with member `id` deciding alone: a snapshot that comes after everything that `id` or its peers may have
/// written down, which `last` and `term` are at least.
///
/// All other members are removed, so that one that comes back hears that it has no part any more. `itself` is how `id` is
/// called and reached from now on, where it is one of several.
pub fn alone<C: Codec>(
    codec: &C,
    mut state: State,
    (last, term): (u64, u64),
    id: MemberId,
    itself: Option<Member>,
    now: Timestamp,
) -> Snapshot {
    let gone: Vec<Member> = state
        .members()
        .filter(|member| member.id != id && member.part != MemberPart::Removed)
        .map(|member| Member { part: MemberPart::Removed, since: now, ..Member::clone(member) })
        .collect();
    let mut index = last.max(state.version().0);
    for member in gone.into_iter().chain(itself) {
        index += 1;
        // Whatever was said of members before, this is what holds.
        let _ = state.apply(Version(index), Command::PutMember { member });
    }
    // One further, so that no log knows the position, whatever it holds.
    let meta = SnapshotMeta { index: index + 1, term: term + 1, membership: Membership::single(id.0) };
    Snapshot { meta, data: codec.encode_snapshot(&state).into() }
}
