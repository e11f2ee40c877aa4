//! `wharf token`: what people and CI jobs work with.

use model::{Scope, Timestamp, TokenId};
use proto::v1::{self, AccessRole, cluster_client::ClusterClient};
use serde_json::{Value as Json, json};

use crate::{
    answer::understood,
    args::{AccessToken, Global, NewAccess, Output},
    connect,
    exit::{Code, Failure},
    output::{
        clock::{self, utc},
        print, say, table,
        text::{Format, lines},
    },
    patience::Patient,
};

type Client = ClusterClient<Patient>;

pub async fn run(global: &Global, verb: AccessToken) -> Result<Code, Failure> {
    let mut client = connect::cluster(global).await?;
    match verb {
        AccessToken::Create(new) => create(&mut client, global, new).await?,
        AccessToken::Ls { output } => {
            let answer = client.list_access_tokens(v1::ListAccessTokensRequest {}).await?.into_inner();
            let tokens = answer.tokens.into_iter().map(|token| understood(shown(token)));
            print(&list(&tokens.collect::<Result<Vec<_>, _>>()?, output, clock::now())?)?;
        }
        AccessToken::Revoke { token } => {
            let request = v1::RevokeAccessTokenRequest { token };
            let withdrawn = client.revoke_access_token(request).await?.into_inner();
            say(format_args!("access token {} is withdrawn", withdrawn.name));
        }
    }
    Ok(Code::Done)
}

async fn create(client: &mut Client, global: &Global, new: NewAccess) -> Result<(), Failure> {
    let role: model::AccessRole = new.role.into();
    let scope = match new.namespaces(global.said) {
        [] => Scope::Everywhere,
        names => Scope::Namespaces(names.iter().cloned().collect()),
    };
    let request = v1::CreateAccessTokenRequest {
        name: new.name.to_string(),
        role: AccessRole::from(role).into(),
        namespaces: proto::trust::namespaces(&scope),
        expires_after_ms: new.expires.map(|after| after.as_millis() as u64),
        addresses: new.addresses,
    };
    let made = client.create_access_token(request).await?.into_inner();
    // Nothing else: a script takes what is printed.
    print(&format!("{}\n", made.token))
}

/// A token as a list shows it.
struct Shown {
    id: TokenId,
    name: String,
    role: model::AccessRole,
    scope: Scope,
    expires_at: Option<Timestamp>,
    created_at: Timestamp,
}

fn shown(token: v1::AccessToken) -> Result<Shown, proto::DecodeError> {
    Ok(Shown {
        id: TokenId(token.id),
        role: token.role().try_into()?,
        name: token.name,
        scope: proto::trust::scope(token.namespaces)?,
        expires_at: token.expires_at_unix_ms.map(Timestamp),
        created_at: Timestamp(token.created_at_unix_ms),
    })
}

fn list(tokens: &[Shown], output: Output, now: Timestamp) -> Result<String, Failure> {
    match Format::of(output) {
        Some(format) => format.render(&tokens.iter().map(to_json).collect()),
        None if output == Output::Name => Ok(lines(tokens.iter().map(|token| token.name.clone()))),
        None => Ok(table::render(
            &["NAME", "ID", "ROLE", "WHERE", "EXPIRES", "CREATED"],
            tokens.iter().map(|token| row(token, now)).collect(),
        )),
    }
}

fn to_json(token: &Shown) -> Json {
    json!({
        "name": token.name,
        "id": token.id.to_string(),
        "role": token.role.as_str(),
        "namespaces": match &token.scope {
            Scope::Everywhere => None,
            Scope::Namespaces(names) => Some(names.iter().map(ToString::to_string).collect::<Vec<_>>()),
        },
        "expiresAt": token.expires_at.map(utc),
        "createdAt": utc(token.created_at),
    })
}

fn row(token: &Shown, now: Timestamp) -> Vec<String> {
    let expires = match token.expires_at {
        None => "never".to_owned(),
        Some(at) if at <= now => format!("{} (expired)", utc(at)),
        Some(at) => utc(at),
    };
    let place = token.scope.to_string();
    let place = place.trim_start_matches("in ").to_owned();
    vec![
        token.name.clone(),
        token.id.to_string(),
        token.role.to_string(),
        place,
        expires,
        utc(token.created_at),
    ]
}

#[cfg(test)]
mod tests {
    use model::Name;

    use super::*;

    #[test]
    fn a_list_says_what_each_may_do_and_until_when() {
        let names = ["shop", "web"].map(|name| Name::new(name).expect("a name"));
        let ci = Shown {
            id: TokenId(1),
            name: "ci".to_owned(),
            role: model::AccessRole::Deployer,
            scope: Scope::Namespaces(names.into()),
            expires_at: Some(Timestamp(1_000)),
            created_at: Timestamp(0),
        };
        let text = list(std::slice::from_ref(&ci), Output::Table, Timestamp(2_000)).expect("a table");
        let row: Vec<&str> = text.lines().nth(1).expect("a row").split_whitespace().collect();
        let expires = ["1970-01-01T00:00:01.000Z", "(expired)", "1970-01-01T00:00:00.000Z"];
        let expected =
            [&["ci", "0000000000001", "deployer", "namespaces", "shop,", "web"], &expires[..]].concat();
        assert_eq!(row, expected);
        assert_eq!(to_json(&ci)["namespaces"], json!(["shop", "web"]));
    }
}
