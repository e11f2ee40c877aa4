//! Tokens: how they are written, that any typing error is told, and what is done with what somebody presents.

#![allow(clippy::unwrap_used)] // Clippy's exemption of tests does not reach the helpers of an integration test.

use std::collections::BTreeSet;

use model::{AccessRole, ClusterId, Grant, HostRole, JoinToken, Name, Scope, Timestamp, TokenId, Uses};
use proptest::prelude::*;
use trust::{
    certificate::Pin,
    token::{
        TokenTextError,
        access::{self, AccessTokenText},
        join::{self, JoinTokenText, redeem},
    },
};

const CLUSTER: ClusterId = ClusterId(1);
const PIN: Pin = Pin([0xab; 32]);
const NOW: Timestamp = Timestamp(1_000_000_000);

/// Written by hand from the module's header, the check by `gzip`'s CRC.
const JOIN: &str = "wharf_join_agent_0000000000001_0000000000002_\
    abababababababababababababababababababababababababababababababab_\
    cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd_00b24601";
const ACCESS: &str = "wharf_access_0000000000001_0000000000003_\
    abababababababababababababababababababababababababababababababab_\
    efefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefef_4df22401";

fn made(role: HostRole, expires_at: Option<Timestamp>, uses: Uses) -> (JoinTokenText, JoinToken) {
    join::make(CLUSTER, PIN, role, expires_at, uses).unwrap()
}

#[test]
fn a_join_token_reads_as_it_always_did() {
    let read = JoinTokenText::parse(JOIN).unwrap();
    assert_eq!(
        (read.role, read.token.cluster, read.id(), read.token.pin),
        (HostRole::Agent, CLUSTER, TokenId(2), PIN)
    );
    assert_eq!(read.reveal().as_str(), JOIN);
    let hash: String = read.token.hash().0.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hash, "15a21c2765956057a9a7cb65a5ad0ebf92c1bd5ff598408f7fa396ee8751dd4d");
    assert_eq!(format!("{read:?}"), "agent token 0000000000002 of 0000000000001");
}

#[test]
fn an_access_token_reads_as_it_always_did() {
    let read = AccessTokenText::parse(&format!(" {ACCESS}\n")).unwrap();
    assert_eq!((read.token.cluster, read.id(), read.token.pin), (CLUSTER, TokenId(3), PIN));
    assert_eq!(read.reveal().as_str(), ACCESS);
    // With where to go, it is one word still; what is shown to a server is the rest of it.
    let addresses = vec!["10.0.0.1:7400".to_owned(), "[2001:db8::1]:7400".to_owned()];
    let whole = AccessTokenText { addresses: addresses.clone(), ..read }.reveal();
    let read = AccessTokenText::parse(&whole).unwrap();
    assert_eq!((&read.addresses, read.bearer().as_str()), (&addresses, ACCESS));
    assert!(whole.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{}", *whole);
}

#[test]
fn one_kind_of_token_is_not_taken_for_the_other() {
    let error = JoinTokenText::parse(ACCESS).unwrap_err();
    assert_eq!(
        error.to_string(),
        "this is no join token: one begins with \"wharf_join_\", and `wharf cluster token create` makes it"
    );
    let error = AccessTokenText::parse(JOIN).unwrap_err();
    assert_eq!(
        error.to_string(),
        "this is no access token: one begins with \"wharf_access_\", and `wharf token create` makes it"
    );
    // The role is under the check as well.
    let other = JOIN.replace("agent", "server");
    assert_eq!(JoinTokenText::parse(&other).unwrap_err(), TokenTextError::Mistyped);
}

#[test]
fn every_single_changed_missing_or_doubled_character_is_told() {
    for (at, letter) in JOIN.char_indices() {
        for other in ('0'..='9').chain('a'..='z').chain(['A', '_', ' ', 'ß']).filter(|other| *other != letter)
        {
            let mut changed = JOIN.to_owned();
            changed.replace_range(at..=at, &other.to_string());
            // A blank at either end is no part of the token.
            assert!(JoinTokenText::parse(&changed).is_err(), "{changed}");
        }
        let mut shorter = JOIN.to_owned();
        shorter.remove(at);
        assert!(JoinTokenText::parse(&shorter).is_err(), "{shorter}");
        let mut longer = JOIN.to_owned();
        longer.insert(at, letter);
        assert!(JoinTokenText::parse(&longer).is_err(), "{longer}");
        assert!(JoinTokenText::parse(&JOIN[..at]).is_err(), "cut at {at}");
    }
}

proptest! {
    #[test]
    fn exchanged_neighbours_are_told(at in 0..JOIN.len() - 1) {
        let mut bytes = JOIN.as_bytes().to_vec();
        bytes.swap(at, at + 1);
        let changed = String::from_utf8(bytes).unwrap();
        prop_assert_eq!(JoinTokenText::parse(&changed).is_err(), changed != JOIN);
    }

    #[test]
    fn a_new_token_survives_being_written(server: bool) {
        let role = if server { HostRole::Server } else { HostRole::Agent };
        let (text, record) = made(role, None, Uses::Unlimited);
        let read = JoinTokenText::parse(&text.reveal()).unwrap();
        prop_assert_eq!(read.role, role);
        prop_assert_eq!(redeem(Some(&record), &read, role, NOW), Ok(record.clone()));
    }
}

#[test]
fn a_token_is_used_as_often_as_it_allows() {
    let (text, mut record) = made(HostRole::Agent, None, Uses::Left(2));
    for left in [1, 0] {
        record = redeem(Some(&record), &text, HostRole::Agent, NOW).unwrap();
        assert_eq!(record.uses, Uses::Left(left));
    }
    let error = redeem(Some(&record), &text, HostRole::Agent, NOW).unwrap_err();
    assert!(error.to_string().contains("used up"), "{error}");
}

#[test]
fn a_token_is_refused_with_the_reason() {
    let (text, record) = made(HostRole::Agent, Some(NOW), Uses::Left(1));
    let (foreign, foreign_record) = made(HostRole::Agent, Some(NOW), Uses::Left(1));
    let before = Timestamp(NOW.0 - 1);
    let refused = |record: Option<&JoinToken>, text, asked, now| {
        redeem(record, text, asked, now).unwrap_err().to_string()
    };

    assert!(redeem(Some(&record), &text, HostRole::Agent, before).is_ok());
    let later = Timestamp(NOW.0 + 7_200_000);
    assert_eq!(
        refused(Some(&record), &text, HostRole::Agent, later),
        "this join token expired 2 hours ago; ask for a new one"
    );
    assert_eq!(
        refused(Some(&record), &text, HostRole::Server, before),
        "this join token is for joining as agent, not as server; ask for one for the role server"
    );

    // Whoever does not have the secret is told the same, whatever there is.
    let unknown = "the cluster does not know this join token: it was rotated or withdrawn; ask for a new one";
    assert_eq!(refused(None, &text, HostRole::Agent, before), unknown);
    assert_eq!(refused(Some(&record), &foreign, HostRole::Server, later), unknown);
    let renamed = JoinToken { id: record.id, ..foreign_record };
    assert_eq!(refused(Some(&renamed), &foreign, HostRole::Agent, before), unknown);
    let renamed = JoinToken { id: foreign.id(), ..record };
    assert_eq!(refused(Some(&renamed), &foreign, HostRole::Agent, before), unknown);
}

#[test]
fn an_access_token_is_recognised_until_it_expires() {
    let names: BTreeSet<Name> = [Name::new("shop").unwrap()].into();
    let grant = Grant { role: AccessRole::Deployer, scope: Scope::Namespaces(names) };
    let name = Name::new("shop-ci").unwrap();
    let addresses = vec!["10.0.0.1:7400".to_owned()];
    let wanted = access::Wanted { name, grant, created_at: NOW, expires_at: Some(NOW), addresses };
    let (text, record) = access::make(CLUSTER, PIN, wanted).unwrap();
    let read = AccessTokenText::parse(&text.reveal()).unwrap();
    let known = access::recognise(Some(&record), &read, Timestamp(NOW.0 - 1)).unwrap();
    assert_eq!(known.grant.to_string(), "deployer in namespace shop");
    let error = access::recognise(Some(&record), &read, NOW).unwrap_err().to_string();
    assert_eq!(error, "the access token shop-ci expired 0 seconds ago; ask an admin for a new one");
    let other = AccessTokenText::parse(ACCESS).unwrap();
    assert_eq!(access::recognise(Some(&record), &other, NOW), Err(access::AccessError::Unknown));
    assert_eq!(access::recognise(None, &read, NOW), Err(access::AccessError::Unknown));
}
