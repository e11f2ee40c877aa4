//! `wharf cluster`: the servers, and what hosts join with.

use std::time::{Duration, UNIX_EPOCH};

use model::{Level, MemberId, Millis, Timestamp, TokenId};
use proto::v1::{self, HostRole, MemberPart, cluster_client::ClusterClient};

use super::{authority, rescue};
use crate::{
    args::{Cluster, ClusterSettings, Global, NewToken, Token},
    connect,
    exit::{Code, Failure},
    output::{clock::utc, print, say, table, text::nearest},
    patience::Patient,
};

pub(super) type Client = ClusterClient<Patient>;

pub async fn run(global: &Global, verb: Cluster) -> Result<Code, Failure> {
    let verb = match verb {
        Cluster::Init(init) => return super::join::init(init),
        Cluster::Restore(restore) => return rescue::restore(restore),
        Cluster::Recover(recover) => return rescue::recover(recover),
        Cluster::Lock(lock) => return rescue::lock(lock),
        verb => verb,
    };
    let mut client = connect::cluster(global).await?;
    match verb {
        Cluster::Init(_) | Cluster::Restore(_) | Cluster::Recover(_) | Cluster::Lock(_) => {
            unreachable!("they need no server, and were handled before")
        }
        Cluster::Backup(backup) => rescue::backup(&mut client, backup).await,
        Cluster::RotateDataKey => {
            let key = client.rotate_data_key(v1::RotateDataKeyRequest {}).await?.into_inner().key;
            say(format_args!("this server encrypts with data key {key} from now on"));
            Ok(Code::Done)
        }
        Cluster::Status => status(&mut client).await,
        Cluster::Members => {
            let seen = client.get_cluster(v1::GetClusterRequest {}).await?.into_inner();
            print(&members(&seen))?;
            Ok(Code::Done)
        }
        Cluster::Promote { server } => {
            set_part(&mut client, &server, MemberPart::Voter, "is given a vote").await
        }
        Cluster::Demote { server } => {
            set_part(&mut client, &server, MemberPart::Learner, "loses its vote").await
        }
        Cluster::Remove { server } => remove(&mut client, &server).await,
        Cluster::TransferLeader { server } => {
            let to = match server {
                Some(server) => Some(find(&mut client, &server).await?.0),
                None => None,
            };
            client.transfer_leader(v1::TransferLeaderRequest { to }).await?;
            let seen = client.get_cluster(v1::GetClusterRequest {}).await?.into_inner();
            say(format_args!("server {} leads now", leader(&seen)));
            Ok(Code::Done)
        }
        Cluster::Settings(settings) => self::settings(&mut client, settings).await,
        Cluster::Authority(verb) => authority::run(&mut client, verb).await,
        Cluster::Token(token) => self::token(&mut client, token).await,
    }
}

async fn status(client: &mut Client) -> Result<Code, Failure> {
    let seen = client.get_cluster(v1::GetClusterRequest {}).await?.into_inner();
    let voters = seen.members.iter().filter(|member| member.now() == MemberPart::Voter).count();
    let mut text = format!("cluster  {}\n", model::ClusterId(seen.cluster));
    match seen.server {
        None => {
            text += "servers  this host alone; `wharf cluster init` makes a cluster that others can join\n"
        }
        Some(_) => {
            let can_lose = voters.saturating_sub(1) / 2;
            text += &format!("leader   {}\n", leader(&seen));
            text += &format!("votes    {voters}; {can_lose} of these servers can be lost\n");
            text += &format!("level    {}\n\n{}", level(&seen), members(&seen));
        }
    }
    print(&text)?;
    Ok(Code::Done)
}

fn name(member: &v1::MemberStatus) -> &str {
    member.member.as_ref().map_or("", |member| member.name.as_str())
}

fn id(member: &v1::MemberStatus) -> Option<u64> {
    member.member.as_ref().map(|member| member.id)
}

/// In words, also where there is none.
fn leader(seen: &v1::GetClusterResponse) -> String {
    let Some(leader) = seen.leader else { return "nobody now".to_owned() };
    let known = seen.members.iter().find(|member| id(member) == Some(leader));
    known.map_or_else(|| MemberId(leader).to_string(), |member| name(member).to_owned())
}

/// What is in use, and who holds up more: the one that leads knows.
fn level(seen: &v1::GetClusterResponse) -> String {
    let in_use = Level::said(seen.level).0;
    let newest = seen.members.iter().filter_map(|member| member.level).max().unwrap_or_default();
    if newest <= in_use {
        return in_use.to_string();
    }
    if seen.leader != seen.server {
        return format!("{in_use}; {newest} once server {}, which leads, hears it of all", leader(seen));
    }
    let is_member = |member: &v1::MemberStatus| {
        member.member.as_ref().is_some_and(|known| known.part() != MemberPart::Removed)
    };
    let is_older =
        |member: &&v1::MemberStatus| is_member(member) && member.level.is_none_or(|level| level < newest);
    let older: Vec<&str> = seen.members.iter().filter(is_older).map(name).collect();
    match older[..] {
        [] => format!("{in_use}; {newest} once all servers are heard"),
        _ => format!("{in_use}; {newest} once these are upgraded: {}", older.join(", ")),
    }
}

fn members(seen: &v1::GetClusterResponse) -> String {
    let row = |member: &v1::MemberStatus| {
        let known = member.member.clone().unwrap_or_default();
        let wanted = part(known.part());
        let now = match member.now {
            Some(_) => part(member.now()),
            None if known.part() == MemberPart::Removed => "removed",
            None => "not yet",
        };
        let shown = if wanted == now { now.to_owned() } else { format!("{now}, becomes {wanted}") };
        let leads = if id(member).is_some() && id(member) == seen.leader { "leads" } else { "" };
        // A server knows its own, and a leader that of all it hears.
        let level = member.level.map_or_else(|| "-".to_owned(), |level| level.to_string());
        let waiting = member.waiting.clone().unwrap_or_default();
        let id = MemberId(known.id).to_string();
        vec![known.name, id, known.address, shown, leads.to_owned(), level, waiting]
    };
    table::render(
        &["NAME", "ID", "ADDRESS", "PART", "LEADS", "LEVEL", "WAITS FOR"],
        seen.members.iter().map(row).collect(),
    )
}

fn part(part: MemberPart) -> &'static str {
    match part {
        MemberPart::Voter => "voter",
        MemberPart::Learner => "learner",
        MemberPart::Removed => "removed",
        MemberPart::Unspecified => "unknown",
    }
}

fn is_meant(member: &v1::Member, wanted: &str) -> bool {
    member.name == wanted || MemberId(member.id).to_string() == wanted
}

/// The id and the name of a server that somebody named.
async fn find(client: &mut Client, wanted: &str) -> Result<(u64, String), Failure> {
    let seen = client.get_cluster(v1::GetClusterRequest {}).await?.into_inner();
    let known: Vec<&v1::Member> = seen
        .members
        .iter()
        .filter_map(|member| member.member.as_ref())
        .filter(|member| member.part() != MemberPart::Removed)
        .collect();
    let mut found = known.iter().filter(|member| is_meant(member, wanted));
    match (found.next(), found.next()) {
        (Some(member), None) => Ok((member.id, member.name.clone())),
        (Some(_), Some(_)) => {
            Err(Failure::new(format!("several servers are called {wanted}")).help("say which by its id"))
        }
        (None, _) => {
            let failure = Failure::new(format!("there is no server {wanted}"));
            Err(match nearest(wanted, known.iter().map(|member| member.name.as_str())) {
                Some(near) => failure.help(format!("did you mean {near}?")),
                None => failure.help("`wharf cluster members` lists them"),
            })
        }
    }
}

async fn settings(client: &mut Client, wanted: ClusterSettings) -> Result<Code, Failure> {
    if let Some(after) = wanted.node_lost_after {
        let request = v1::ChangeSettingsRequest { node_lost_after_ms: Some(after.as_millis() as u64) };
        client.change_settings(request).await?;
    }
    let settings =
        client.get_settings(v1::GetSettingsRequest {}).await?.into_inner().settings.unwrap_or_default();
    print(&format!("nodes are lost after  {}\n", Millis(settings.node_lost_after_ms)))?;
    Ok(Code::Done)
}

async fn set_part(client: &mut Client, server: &str, part: MemberPart, done: &str) -> Result<Code, Failure> {
    let (id, name) = find(client, server).await?;
    client.set_member_part(v1::SetMemberPartRequest { id, part: part.into() }).await?;
    say(format_args!("server {name} {done}"));
    Ok(Code::Done)
}

/// Said again of one that is removed already, it is done.
async fn remove(client: &mut Client, server: &str) -> Result<Code, Failure> {
    let seen = client.get_cluster(v1::GetClusterRequest {}).await?.into_inner();
    let named: Vec<&v1::Member> =
        seen.members.iter().filter_map(|m| m.member.as_ref()).filter(|m| is_meant(m, server)).collect();
    if !named.is_empty() && named.iter().all(|member| member.part() == MemberPart::Removed) {
        say(format_args!("server {} was removed already", named[0].name));
        return Ok(Code::Done);
    }
    set_part(client, server, MemberPart::Removed, "is removed").await
}

async fn token(client: &mut Client, verb: Token) -> Result<Code, Failure> {
    match verb {
        Token::Create(new) => create(client, new, false).await,
        Token::Rotate(new) => create(client, new, true).await,
        Token::Ls => {
            let tokens = client.list_join_tokens(v1::ListJoinTokensRequest {}).await?.into_inner().tokens;
            print(&table::render(&["ID", "ROLE", "EXPIRES", "USES LEFT"], tokens.iter().map(row).collect()))?;
            Ok(Code::Done)
        }
        Token::Revoke { id } => {
            client.revoke_join_token(v1::RevokeJoinTokenRequest { id: id.0 }).await?;
            say(format_args!("join token {id} is withdrawn"));
            Ok(Code::Done)
        }
    }
}

async fn create(client: &mut Client, new: NewToken, replaces_others: bool) -> Result<Code, Failure> {
    let role: model::HostRole = new.role.into();
    let request = v1::CreateJoinTokenRequest {
        role: HostRole::from(role).into(),
        expires_after_ms: Some(new.expires.as_millis() as u64),
        uses: new.uses,
        replaces_others,
    };
    let made = client.create_join_token(request).await?.into_inner();
    // Nothing else: a script takes what is printed.
    print(&format!("{}\n", made.token))?;
    Ok(Code::Done)
}

fn row(token: &v1::JoinToken) -> Vec<String> {
    let role = match token.role() {
        HostRole::Server => "server",
        HostRole::Agent => "agent",
        HostRole::Unspecified => "unknown",
    };
    let now = UNIX_EPOCH.elapsed().unwrap_or(Duration::ZERO).as_millis() as u64;
    let expires = match token.expires_at_unix_ms {
        None => "never".to_owned(),
        Some(at) if at <= now => format!("{} (expired)", utc(Timestamp(at))),
        Some(at) => utc(Timestamp(at)),
    };
    let uses = token.uses_left.map_or_else(|| "any".to_owned(), |left| left.to_string());
    vec![TokenId(token.id).to_string(), role.to_owned(), expires, uses]
}
