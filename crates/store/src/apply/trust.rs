//! Commands about what hosts know each other by.

use std::sync::Arc;

use model::{ClusterTrust, MemberId, MemberPart, NodeId};

use crate::{Changes, Outcome, Rejected, State, TrustChange};

impl State {
    pub(crate) fn change_trust(&mut self, change: TrustChange) -> Result<(Outcome, Changes), Rejected> {
        match change {
            TrustChange::Found { .. } if self.trust.is_some() => {}
            TrustChange::Found { trust, tokens } => {
                self.trust = Some(Arc::new(trust));
                self.join_tokens.extend(tokens.into_iter().map(|token| (token.id, Arc::new(token))));
            }
            TrustChange::PutJoinToken { token, replaces } => {
                if self.join_tokens.get(&token.id).map(|known| &**known) != replaces.as_ref() {
                    return Err(Rejected::TokenChanged(token.id));
                }
                self.join_tokens.insert(token.id, Arc::new(token));
            }
            TrustChange::RemoveJoinToken { id } => {
                self.join_tokens.remove(&id);
            }
            TrustChange::PutAccessToken { token } => {
                if self.access_tokens().any(|known| known.name == token.name && known.id != token.id) {
                    return Err(Rejected::TokenNameTaken(token.name));
                }
                self.access_tokens.insert(token.id, Arc::new(token));
            }
            TrustChange::RemoveAccessToken { id } => {
                self.access_tokens.remove(&id);
            }
            TrustChange::Rotate { trust, replaces } => self.rotate(trust, &replaces)?,
            TrustChange::Believe { host, belief } => {
                if let Some(trust) = &mut self.trust {
                    Arc::make_mut(trust).beliefs.insert(host, belief);
                }
            }
        }
        Ok((Outcome::Done, Changes::default()))
    }

    fn rotate(&mut self, next: ClusterTrust, replaces: &str) -> Result<(), Rejected> {
        let known = self.trust.as_ref().filter(|known| known.bundle == replaces);
        let mut beliefs = known.ok_or(Rejected::AuthorityChanged)?.beliefs.clone();
        beliefs.retain(|host, _| self.is_host(*host));
        self.trust = Some(Arc::new(ClusterTrust { beliefs, ..next }));
        Ok(())
    }

    /// Whether a certificate for this id is that of a host which belongs to the cluster.
    fn is_host(&self, id: NodeId) -> bool {
        let member = self.members.get(&MemberId(id.0));
        self.nodes.contains_key(&id) || member.is_some_and(|member| member.part != MemberPart::Removed)
    }
}
