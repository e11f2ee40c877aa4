//! From files to the state that a member starts with.

use super::{
    GroupBuilder, Position, SegmentHeader,
    corruption::{Corruption, Damage},
    encrypted::Decrypt,
    replay::Replay,
    scan::{Scan, scan},
    segment_name, snapshot_name,
};
use crate::{HardState, Recovered, Snapshot};

/// A segment as it was found.
#[derive(Clone, Copy, Debug)]
pub struct SegmentFile<'a> {
    /// By its name.
    pub segment: u64,
    pub bytes: &'a [u8],
}

/// What the files say, and what has to be done to them before the log may be appended to.
#[derive(Clone, Debug)]
pub struct Recovery {
    pub recovered: Recovered,
    /// The hard state as it stands in the log; the recovered one may be ahead of it by what a snapshot implies.
    pub logged_hard_state: HardState,
    /// All segments, oldest first.
    pub headers: Vec<SegmentHeader>,
    /// Where the next group goes in the last segment.
    pub end_offset: u64,
    pub next_group: u64,
    /// Where the last complete group of the last segment begins.
    pub last_group_offset: Option<u64>,
    /// Fill this with zeros and sync.
    pub torn: Option<Torn>,
    /// The last segment but one is not sealed yet: write this there.
    pub seal: Option<UnwrittenSeal>,
    /// Write a group that restarts the log here first: it does not say yet that it goes on after the snapshot.
    pub restart: Option<Position>,
}

/// The end of a segment that a crash left half-written. It was never acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    pub file: String,
    pub offset: u64,
    pub bytes: u64,
}

/// A crash came between making a segment and sealing the one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnwrittenSeal {
    pub segment: u64,
    pub offset: u64,
    pub bytes: Vec<u8>,
}

/// Reads a whole log. `segments` are in the order of their numbers, and there is at least one; `snapshot` is the newest
/// one, with the member that made it.
///
/// A torn end is reported in the result; any other damage is an error.
pub fn recover(
    snapshot: Option<(u64, Snapshot)>,
    segments: &[SegmentFile<'_>],
    keys: &dyn Decrypt,
) -> Result<Recovery, Corruption> {
    let Some(last) = segments.last() else {
        let file = snapshot.map_or_else(|| segment_name(1), |(_, s)| snapshot_name(s.meta.index));
        return Err(Corruption::new(file, 0, Damage::MissingLog));
    };
    let (headers, mut scans) = read_segments(segments, keys)?;
    let (member, mut replay) = (headers[0].member, Replay::new(headers[0].hard_state, headers[0].before));
    let seal = check_chain(&headers, &mut scans)?;
    for (header, scan) in headers.iter().zip(&mut scans) {
        check_continues(header, &replay)?;
        replay_groups(header, scan, &mut replay)?;
    }
    if let Some((owner, snapshot)) = snapshot.as_ref().filter(|(owner, _)| *owner != member) {
        let damage = Damage::OtherMember { found: *owner, expected: member };
        return Err(Corruption::new(snapshot_name(snapshot.meta.index), 0, damage));
    }
    let snapshot = snapshot.map(|(_, snapshot)| snapshot);
    let restart = join(&headers[0], snapshot.as_ref(), &mut replay)?;
    let logged_hard_state = replay.hard_state;
    let recovered = finish(member, snapshot, replay);
    let Some(scan) = scans.pop() else {
        return Err(Corruption::new(segment_name(last.segment), 0, Damage::NotOurs));
    };
    Ok(Recovery {
        recovered,
        logged_hard_state,
        headers,
        end_offset: scan.end_offset,
        next_group: scan.next_group,
        last_group_offset: scan.groups.last().map(|group| group.offset),
        torn: scan.torn,
        seal,
        restart,
    })
}

const SEAL_BYTES: u64 = super::SECTOR_BYTES as u64;

fn read_segments(
    segments: &[SegmentFile<'_>],
    keys: &dyn Decrypt,
) -> Result<(Vec<SegmentHeader>, Vec<Scan>), Corruption> {
    let mut headers: Vec<SegmentHeader> = Vec::new();
    let mut scans = Vec::new();
    for file in segments {
        if let Some(before) = headers.last().filter(|before| before.segment + 1 != file.segment) {
            let missing = before.segment + 1;
            return Err(Corruption::new(segment_name(missing), 0, Damage::MissingSegment { missing }));
        }
        let header = SegmentHeader::decode(file.segment, file.bytes)?;
        if let Some(first) = headers.first().filter(|first| first.member != header.member) {
            let damage = Damage::OtherMember { found: header.member, expected: first.member };
            return Err(Corruption::new(segment_name(file.segment), 0, damage));
        }
        scans.push(scan(&header, file.bytes, keys)?);
        headers.push(header);
    }
    Ok((headers, scans))
}

/// Every segment but the last ends with a seal, and the last has none. The one exception is a crash between making the
/// last segment, which is still empty then, and sealing the one before it.
fn check_chain(headers: &[SegmentHeader], scans: &mut [Scan]) -> Result<Option<UnwrittenSeal>, Corruption> {
    let mut unwritten = None;
    for at in 0..headers.len() {
        let (header, next) = (&headers[at], headers.get(at + 1));
        let damaged = |offset, damage| Err(Corruption::new(segment_name(header.segment), offset, damage));
        let (end, group) = (scans[at].end_offset, scans[at].next_group);
        match (scans[at].sealed, next) {
            (None, None) => {}
            (Some(sealed), None) => {
                return Err(Corruption::new(
                    segment_name(sealed),
                    0,
                    Damage::MissingSegment { missing: sealed },
                ));
            }
            (Some(sealed), Some(next)) => {
                if sealed != next.segment || next.first_group != group {
                    return damaged(end, Damage::Record("the seal does not fit the next segment"));
                }
            }
            (None, Some(next)) => {
                let is_last = at + 2 == headers.len();
                let crashed = is_last && scans[at + 1].groups.is_empty() && next.first_group == group + 1;
                // All that can be torn is the seal, and that is about to be written again.
                let torn = scans[at].torn.take();
                if !crashed || torn.is_some_and(|torn| torn.bytes > SEAL_BYTES) {
                    return damaged(end, Damage::Unfinished { missing: group });
                }
                unwritten = Some(make_seal(header, next.segment, end, group));
            }
        }
    }
    Ok(unwritten)
}

fn make_seal(header: &SegmentHeader, next: u64, offset: u64, group: u64) -> UnwrittenSeal {
    let mut builder = GroupBuilder::default();
    builder.seal(next);
    UnwrittenSeal { segment: header.segment, offset, bytes: builder.encode(header, offset, group) }
}

fn check_continues(header: &SegmentHeader, replay: &Replay) -> Result<(), Corruption> {
    if header.before != replay.last() || header.hard_state != replay.hard_state {
        let damage = Damage::Discontinuous { found: header.before, expected: replay.last() };
        return Err(Corruption::new(segment_name(header.segment), 0, damage));
    }
    Ok(())
}

fn replay_groups(header: &SegmentHeader, scan: &mut Scan, replay: &mut Replay) -> Result<(), Corruption> {
    for group in &mut scan.groups {
        let damaged = |damage| Corruption::new(segment_name(header.segment), group.offset, damage);
        for record in group.records.drain(..) {
            replay.apply(record).map_err(damaged)?;
        }
    }
    Ok(())
}

/// Puts snapshot and log together: what the snapshot covers is dropped from the log.
///
/// Where the log does not know the snapshot's position, the snapshot came from the leader and a crash came before the
/// log said so: the log's entries are void then, and nothing depends on them, because the leader never heard of it.
fn join(
    first: &SegmentHeader,
    snapshot: Option<&Snapshot>,
    replay: &mut Replay,
) -> Result<Option<Position>, Corruption> {
    let at = snapshot.map(|s| Position { index: s.meta.index, term: s.meta.term }).unwrap_or_default();
    let begins_after = replay.before.index.max(first.before.index);
    if at.index < begins_after {
        let damage =
            Damage::MissingSnapshot { begins_after, snapshot: snapshot.map(|snapshot| snapshot.meta.index) };
        return Err(Corruption::new(segment_name(first.segment), 0, damage));
    }
    let found = replay.term_at(at.index).map(|term| Position { index: at.index, term });
    let known = found == Some(at);
    if let Some(found) = found.filter(|found| !known && found.index <= replay.hard_state.commit) {
        let damage = Damage::Discontinuous { found, expected: at };
        return Err(Corruption::new(snapshot_name(at.index), 0, damage));
    }
    replay.entries.retain(|entry| known && entry.index > at.index);
    replay.before = at;
    Ok((!known).then_some(at))
}

fn finish(member: u64, snapshot: Option<Snapshot>, replay: Replay) -> Recovered {
    let last = replay.last();
    let mut hard_state = replay.hard_state;
    if hard_state.term < last.term {
        // The crash came between an installed snapshot and its hard state. A vote in this term would have been durable
        // before anyone counted it, so there was none.
        hard_state = HardState { term: last.term, vote: 0, ..hard_state };
    }
    hard_state.commit = hard_state.commit.clamp(replay.before.index, last.index);
    Recovered { id: member, hard_state, snapshot, entries: replay.entries }
}
