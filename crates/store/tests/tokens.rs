//! Access tokens in the state.
#![expect(clippy::unwrap_used, reason = "a test fails where it goes wrong")]

mod support;

use model::{AccessRole, AccessToken, Grant, Name, Scope, SecretHash, Timestamp, TokenId};
use store::{Command, Rejected, State, TrustChange};
use support::Speak;

fn token(id: u64, name: &str) -> AccessToken {
    AccessToken {
        id: TokenId(id),
        secret: SecretHash([7; 32]),
        name: Name::new(name).unwrap(),
        grant: Grant { role: AccessRole::Viewer, scope: Scope::Everywhere },
        created_at: Timestamp(1),
        expires_at: None,
    }
}

#[test]
fn a_name_is_of_one_token_until_it_is_withdrawn() {
    let mut state = State::default();
    let put = |token| Command::Trust(TrustChange::PutAccessToken { token });
    state.say(put(token(1, "ci"))).unwrap();
    let taken = Rejected::TokenNameTaken(Name::new("ci").unwrap());
    assert_eq!(state.say(put(token(2, "ci"))).unwrap_err(), taken);
    assert!(state.access_token(TokenId(2)).is_none());
    state.say(Command::Trust(TrustChange::RemoveAccessToken { id: TokenId(1) })).unwrap();
    assert!(state.access_token(TokenId(1)).is_none());
    state.say(put(token(2, "ci"))).unwrap();
    assert_eq!(**state.access_token(TokenId(2)).unwrap(), token(2, "ci"));
}
