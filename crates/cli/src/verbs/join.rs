//! `wharf cluster init` and `wharf join`: how a host becomes one of a cluster.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::UNIX_EPOCH,
};

use dial::Way;
use model::{HostRole, Level, MemberId, Name, Timestamp};
use proto::v1::{self, join_client::JoinClient};
use rustls::time_provider::DefaultTimeProvider;
use server::founding;
use tonic::codegen::http::HeaderMap;
use trust::{
    bundle::Trust,
    certificate::NodeCertificate,
    folder::IdentityFolder,
    identity::any_server_name,
    tls::{Believe, Present, client_config},
    token::join::JoinTokenText,
};

use crate::{
    args,
    exit::{Code, Failure},
    membership::{Membership, trust_dir},
    output::say,
    patience::Patient,
    reach::Reach,
    verbs::agent::{host_address, host_name},
};

const PORT: u16 = 7400;

pub fn init(init: args::Init) -> Result<Code, Failure> {
    let args::Init { data, reached } = init;
    let membership = membership(reached, true, BTreeMap::new())?;
    let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_millis() as u64;
    let failed = |error| Failure::new("the cluster cannot be founded").caused_by(error);
    founding::check(&data, &trust_dir(&data)).map_err(failed)?;
    // The certificate last: with it the cluster is founded, and without it this can be done again.
    membership.write(&data)?;
    let identity = founding::found(&data, &trust_dir(&data), Timestamp(now)).map_err(failed)?;
    let Membership { name, advertise, .. } = membership;
    say(format_args!("cluster {} is founded; its first server is {name} at {advertise}", identity.cluster));
    say(format_args!("run it with: wharf server{}", data_flag(&data, HostRole::Server)));
    say("then let other hosts join: wharf cluster token create --role server|agent");
    Ok(Code::Done)
}

pub async fn join(join: args::Join) -> Result<Code, Failure> {
    let args::Join { token, addresses, data, reached } = join;
    let token = JoinTokenText::parse(&token)
        .map_err(|error| Failure::new("this host cannot join").caused_by(error))?;
    let data = data.unwrap_or_else(|| default_data(token.role));
    let failed = |error| Failure::new(format!("cannot use {}", data.display())).caused_by(error);
    let folder = IdentityFolder::open(&trust_dir(&data)).map_err(failed)?;
    if let Some(stored) = folder.load().map_err(failed)? {
        let identity = stored.credentials.identity();
        let failure = Failure::new(format!("{} has joined already, as {identity}", data.display()));
        return Err(failure.help("to join again as a new host, stop it and begin with an empty folder"));
    }
    let key = folder.next_key().map_err(failed)?;
    let request =
        key.request().map_err(|error| Failure::new("no certificate can be asked for").caused_by(error))?;
    let request = v1::JoinRequest {
        token: token.reveal().to_string(),
        role: v1::HostRole::from(token.role).into(),
        certificate_request: request.der().to_vec().into(),
        level: Level::NEWEST.0,
    };
    let answer = ask(&token, &addresses, request).await?;
    let damaged = |error: String| Failure::new("the server's answer cannot be understood").because(error);
    let bundle = Trust::from_pem(&answer.trust).map_err(|error| damaged(error.to_string()))?;
    let certificate =
        NodeCertificate::from_pem(&answer.certificate).map_err(|error| damaged(error.to_string()))?;
    let name = match token.role {
        HostRole::Server => {
            let contacts = answer.servers.iter();
            let contacts = contacts.map(|server| (MemberId(server.id).to_string(), server.address.clone()));
            let membership = membership(reached, false, contacts.collect())?;
            membership.write(&data)?;
            membership.name
        }
        HostRole::Agent => {
            let known: Vec<String> = answer.servers.into_iter().map(|server| server.address).collect();
            let known = if known.is_empty() { addresses } else { known };
            let path = agent::Config::servers_path(&data);
            agent::write_servers(&path, &known)
                .map_err(|error| Failure::new(format!("cannot write {}", path.display())).caused_by(error))?;
            host_name()
        }
    };
    // The certificate last: with it the host has joined.
    folder.believe(&bundle).map_err(failed)?;
    folder.install(certificate).map_err(failed)?;
    let (role, cluster) = (token.role.as_str(), token.token.cluster);
    say(format_args!("{name} has joined cluster {cluster} as {role}"));
    say(format_args!("run it with: wharf {role}{}", data_flag(&data, token.role)));
    Ok(Code::Done)
}

/// The first server that answers.
async fn ask(
    token: &JoinTokenText,
    addresses: &[String],
    request: v1::JoinRequest,
) -> Result<v1::JoinResponse, Failure> {
    let believe = Believe::Pin(token.token.cluster, token.token.pin);
    let config = client_config(Present::Nothing, believe, Arc::new(DefaultTimeProvider));
    let config = Arc::new(config.map_err(|error| Failure::new("TLS cannot be set up").caused_by(error))?);
    let name = any_server_name(token.token.cluster);
    let way =
        |address: &String| Way::Tls { address: address.clone(), name: name.clone(), config: config.clone() };
    let reach = Reach::new(addresses.iter().map(way).collect());
    if let Err(unreachable) = reach.channel().await {
        let failure = unreachable.into_failure("the cluster");
        return Err(failure.help(
            "name the address and port that a server's --advertise says, and look at firewalls between",
        ));
    }
    let answer = JoinClient::new(Patient::new(reach, HeaderMap::new())).join(request).await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| Failure::new("this host cannot join").because(status.message()))
}

pub(super) fn membership(
    reached: args::Reached,
    founded: bool,
    contacts: BTreeMap<String, String>,
) -> Result<Membership, Failure> {
    let args::Reached { advertise, listen, name } = reached;
    let name = name.unwrap_or_else(host_name);
    let bad_name =
        |error| Failure::new(format!("--name {name:?} cannot be a server's name")).caused_by(error);
    let name = Name::new(&name).map_err(bad_name)?.to_string();
    let advertise = advertise.unwrap_or_else(|| format!("{}:{PORT}", host_address()));
    if !dial::is_address(&advertise) {
        let failure = Failure::new(format!("--advertise {advertise:?} is no address"));
        return Err(failure.help("say where other hosts reach this one, such as 10.0.0.1:7400"));
    }
    Ok(Membership { name, listen, advertise, founded, contacts })
}

fn default_data(role: HostRole) -> PathBuf {
    PathBuf::from("/var/lib/wharf").join(role.as_str())
}

fn data_flag(data: &Path, role: HostRole) -> String {
    if data == default_data(role) { String::new() } else { format!(" --data {}", data.display()) }
}
