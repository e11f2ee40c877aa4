//! Other servers: users add one with an empty disk, give and take votes, remove one, let another lead; and a disk is lost for
//! good, which no server comes back from under its old id. In the end users remove those: before that, what else they wanted of
//! the members may have to wait.

use manager::{Event, MemberError, MemberRequest, RequestId};
use model::{MemberId, MemberPart, Millis, Name};

use crate::{
    bug::Bug,
    disk::SimDisk,
    plan::{Ask, MemberAsk, name},
    server::Server,
    world::{Happening, World},
};

/// Who gives votes or takes them away looks first who is alive. A loss in the same moment nobody could foresee: with the vote
/// that goes, or that is given to who is lost, it may be one loss too many.
const SEEN_AFTER: Millis = Millis(5_000);

/// How a server is called, and where it is.
pub(crate) fn itself(server: usize) -> (Name, String) {
    (name(&format!("server-{server}")), format!("192.0.2.{}:7410", 100 + server))
}

impl World {
    pub(crate) fn user_wants_members(&mut self, server: usize, ask: usize, attempt: u32, what: MemberAsk) {
        let of_known = !matches!(what, MemberAsk::Join | MemberAsk::JoinAsLearner | MemberAsk::Transfer(_));
        if of_known && self.cx.now < self.users.sees_losses_at {
            return self.cx.at(self.users.sees_losses_at, Happening::UserAsks { ask, attempt });
        }
        let member = |server: usize| MemberId(server as u64 + 1);
        let part = |server, part| MemberRequest::SetPart { member: member(server), part };
        let request = match what {
            MemberAsk::Introduce(server) => self.add_request(server, MemberPart::Voter),
            MemberAsk::Join => {
                let joins = self.server_that_joins(ask);
                self.add_request(joins, MemberPart::Voter)
            }
            MemberAsk::JoinAsLearner => {
                let joins = self.server_that_joins(ask);
                self.add_request(joins, MemberPart::Learner)
            }
            MemberAsk::Promote(server) => part(server, MemberPart::Voter),
            MemberAsk::Demote(server) => part(server, MemberPart::Learner),
            MemberAsk::Remove(server) => part(server, MemberPart::Removed),
            MemberAsk::Transfer(server) => {
                MemberRequest::Transfer { to: self.cx.random.one_in(2).then(|| member(server)) }
            }
        };
        let number = self.next_number();
        self.cx.say(format_args!("user: asks server {server} #{number} {request:?}"));
        self.users.members.insert(RequestId(number), (ask, attempt, server));
        self.cx.soon(8_000, 20_000, Happening::UserGivesUp { number });
        self.server_hears(server, Event::Members { id: RequestId(number), request });
    }

    fn add_request(&self, server: usize, part: MemberPart) -> MemberRequest {
        let (name, address) = itself(server);
        let level = self.servers[server].level;
        MemberRequest::Add { id: MemberId(server as u64 + 1), name, address, part, level }
    }

    /// The same for every attempt of an ask.
    fn server_that_joins(&mut self, ask: usize) -> usize {
        if let Some(server) = self.users.joining.get(&ask) {
            return *server;
        }
        let server = self.servers.len();
        let contacts = self.servers.iter().filter(|known| !known.is_gone).map(|known| known.member).collect();
        let (random, lies) = (self.cx.random.fork(), self.cx.has(Bug::LoseLastGroup));
        self.servers.push(Server::joining(server as u64 + 1, contacts, random, lies));
        self.users.joining.insert(ask, server);
        self.cx.soon(0, 2_000, Happening::ServerStarts { server });
        server
    }

    pub(crate) fn members_are_answered(&mut self, id: RequestId, result: Result<(), MemberError>) {
        let Some((ask, attempt, _)) = self.users.members.remove(&id) else {
            if !self.users.given_up.remove(&id.0) {
                self.cx.violate("an answer follows a question, once", format!("{id:?}: {result:?}"));
            }
            return;
        };
        match result {
            Ok(()) => self.cx.say(format_args!("user: #{} is done", id.0)),
            Err(MemberError::NotLeader { leader }) => {
                self.note_hint(ask, leader);
                self.ask_again(ask, attempt);
            }
            Err(error @ (MemberError::LeadershipLost | MemberError::Overloaded)) => {
                self.cx.say(format_args!("user: #{} is to try again: {error}", id.0));
                self.ask_again(ask, attempt);
            }
            Err(error) => {
                self.cx.say(format_args!("user: #{} is refused: {error}", id.0));
                let may_change =
                    matches!(error, MemberError::WouldLoseQuorum { .. } | MemberError::Unknown { .. });
                if self.cx.calm && may_change {
                    self.ask_again(ask, attempt);
                }
            }
        }
    }

    pub(crate) fn server_is_removed(&mut self, server: usize, reason: &str) {
        self.cx.say(format_args!("server {server}: stops, it was removed: {reason}"));
        let state = self.logs.state_at(self.agreement.newest());
        let member = state.and_then(|state| state.member(MemberId(server as u64 + 1)));
        if member.is_none_or(|member| member.part != MemberPart::Removed) {
            self.cx.violate("only who was removed stops", format!("server {server}: {reason}"));
        }
        self.servers[server].is_gone = true;
        self.server_crashes(server);
    }

    /// Where the others can do without it; users then have to put a new one in its place.
    pub(crate) fn lose_disk(&mut self, server: usize) {
        if !self.can_spare(server) {
            return;
        }
        self.cx.say(format_args!("server {server}: loses its disk"));
        self.users.sees_losses_at = self.cx.now + SEEN_AFTER;
        self.server_crashes(server);
        if self.cx.has(Bug::KeepId) {
            self.servers[server].disk = SimDisk::new(self.cx.random.fork(), false);
        } else {
            self.servers[server].is_gone = true;
        }
    }

    /// What users do who see servers that will never come back: they see to it that these are known, and remove them.
    pub(crate) fn remove_the_lost(&mut self) {
        let lost =
            (0..self.servers.len()).filter(|&server| self.servers[server].is_gone && self.has_a_part(server));
        for server in lost.collect::<Vec<_>>() {
            for what in [MemberAsk::Introduce(server), MemberAsk::Remove(server)] {
                let ask = self.plan.asks.len();
                self.plan.asks.push((self.cx.now, Ask::Members(what)));
                self.cx.at(self.cx.now, Happening::UserAsks { ask, attempt: 1 });
            }
        }
    }

    fn can_spare(&self, server: usize) -> bool {
        // One that was replaced may not know yet who votes.
        let elected_last = self.agreement.elected_last();
        let Some(leader) = self.leading().filter(|leader| elected_last == Some(*leader)) else {
            return false;
        };
        let Some(membership) = self.servers[leader].status().map(|status| status.membership) else {
            return false;
        };
        let Some(state) = self.logs.state_at(self.logs.tip(leader)) else { return false };
        let stays = |id: u64| {
            let wanted = state.member(MemberId(id)).is_none_or(|member| member.part == MemberPart::Voter);
            let at = id as usize - 1;
            wanted && at != server && !self.servers[at].is_gone
        };
        let votes = |id: &&u64| state.member(MemberId(**id)).is_none_or(|m| m.part == MemberPart::Voter);
        let now = membership.voters.iter().filter(|id| stays(**id)).count() * 2 > membership.voters.len();
        let wanted: Vec<&u64> = membership.voters.iter().filter(votes).collect();
        let then = wanted.iter().filter(|id| stays(***id)).count() * 2 > wanted.len();
        let no_change = state.members().all(|member| {
            let is_voter = membership.voters.contains(&member.id.0);
            (member.part == MemberPart::Voter) == is_voter
        });
        now && then && no_change && !membership.is_joint()
    }

    /// Whether the others know of this server: one that was never added waits for the state in vain.
    pub(crate) fn has_a_part(&self, server: usize) -> bool {
        let member = self.servers[server].member;
        let is_begun_with = server < self.plan.servers;
        let state = self.logs.state_at(self.agreement.newest());
        is_begun_with || state.is_some_and(|state| state.member(MemberId(member)).is_some())
    }

    /// What of the members is not as users want it.
    pub(crate) fn unrest_of_members(&self, view: &manager::View) -> Option<String> {
        for member in view.state.members() {
            let (id, server) = (member.id.0, member.id.0 as usize - 1);
            let (votes, learns) =
                (view.membership.voters.contains(&id), view.membership.learners.contains(&id));
            let is_done = match member.part {
                MemberPart::Voter => votes,
                MemberPart::Learner => learns && !votes,
                MemberPart::Removed => !votes && !learns && self.servers[server].is_gone,
            };
            if !is_done {
                let waiting = view.members_waiting.get(&member.id);
                return Some(format!("server {server} is not {:?} yet: {waiting:?}", member.part));
            }
        }
        None
    }
}
