//! What the servers know, and which of it is in use: see [`model::level`].
//!
//! - What a member knows it says itself, whenever it speaks; it is no part of the state. A state that said so would have to
//!   say it in a field that an older server overlooks, and then not all would have the same.
//! - A member that is not heard now may be another build when it comes back: while one is away, nothing is raised. What it
//!   said is forgotten when a connection with it ends, as that may be the end of the build that it ran; it says it again with
//!   each message.
//! - Of whoever is no member nothing is kept.

use std::collections::BTreeSet;

use imbl::OrdMap;
use model::{Level, MemberId, MemberPart};
use store::Command;

use crate::{Codec, Manager, RequestError, proposals::Origin};

impl<C: Codec> Manager<C> {
    pub(crate) fn hear_level(&mut self, peer: u64, level: Level) {
        if self.members.levels.insert(MemberId(peer), level) != Some(level) {
            self.view_changed = true;
        }
    }

    pub(crate) fn forget_level(&mut self, peer: u64) {
        if self.members.levels.remove(&MemberId(peer)).is_some() {
            self.view_changed = true;
        }
    }

    /// Who does not lead hears from the others only now and then, and may be told something old.
    pub(crate) fn known_levels(&self) -> OrdMap<MemberId, Level> {
        match self.leader.leads() {
            true => self.members.levels.clone(),
            false => OrdMap::unit(self.members.id, self.level),
        }
    }

    /// None of one that is not heard.
    fn level_of(&self, member: MemberId) -> Option<Level> {
        self.members.levels.get(&member).copied().filter(|_| self.members.is_there(member.0))
    }

    /// All that are members, or are about to be.
    fn who_counts(&self) -> impl Iterator<Item = MemberId> {
        let wanted = self.ahead().members().filter(|member| member.part != MemberPart::Removed);
        let wanted: Vec<MemberId> = wanted.map(|member| member.id).collect();
        let membership = self.consensus.status().membership;
        let now: Vec<MemberId> = membership.members().map(MemberId).collect();
        wanted.into_iter().chain(now)
    }

    /// What every member knows; none while one is not heard.
    fn level_of_all(&self) -> Option<Level> {
        self.who_counts().map(|member| self.level_of(member)).min().flatten()
    }

    /// Once every member knows more than is in use, that is in use.
    pub(super) fn raise_level(&mut self) {
        let Some(to) = self.level_of_all().filter(|level| *level > self.ahead().level()) else { return };
        match self.try_and_propose(Command::Raise { to }, Origin::Nobody) {
            Ok(()) => tracing::info!(%to, "every server knows this level: it is put in use"),
            Err(error) => tracing::debug!(%error, "the level in use could not be raised; it is tried again"),
        }
    }

    /// Whether what is about to be proposed may be, where this level is in use.
    pub(crate) fn check_level(&self, needs: Level, in_use: Level) -> Result<(), RequestError> {
        if needs <= in_use {
            return Ok(());
        }
        let (mut older, mut away) = (BTreeSet::new(), BTreeSet::new());
        for member in self.who_counts() {
            match self.level_of(member) {
                Some(level) if level >= needs => false,
                Some(_) => older.insert(member),
                None => away.insert(member),
            };
        }
        let name =
            |id: MemberId| self.ahead().member(id).map_or(id.to_string(), |known| known.name.to_string());
        let names = |ids: BTreeSet<MemberId>| ids.into_iter().map(name).collect();
        Err(RequestError::NeedsLevel { needs, in_use, older: names(older), away: names(away) })
    }

    /// Whatever was written with a level that this build does not know, it must not guess at.
    pub(crate) fn check_knows(&mut self) {
        if let Err(too_new) = TooNew::check(self.state.level(), self.level) {
            self.give_up(too_new.to_string());
        }
    }
}

/// The state is one that only a newer build understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the servers of this cluster use {in_use}, and this one knows none above {known}: put the build of the other servers \
     here. What is on this server's disk stays as it is"
)]
pub struct TooNew {
    pub in_use: Level,
    pub known: Level,
}

impl TooNew {
    pub fn check(in_use: Level, known: Level) -> Result<(), TooNew> {
        if in_use > known { Err(TooNew { in_use, known }) } else { Ok(()) }
    }
}
