//! Commands about what hosts know each other by.

use std::sync::Arc;

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
        }
        Ok((Outcome::Done, Changes::default()))
    }
}
