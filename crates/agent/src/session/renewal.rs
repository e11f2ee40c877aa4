//! The agent's certificate, renewed when two thirds of its life are over, without a restart.
//!
//! Any server answers. The session that stands goes on with what it began with; the next one begins with the new certificate.

use std::{path::PathBuf, sync::Arc, time::Duration};

use dial::{DialError, Patience, Way, dial};
use model::Timestamp;
use proto::v1::{self, join_client::JoinClient};
use rustls::{ClientConfig, time_provider::DefaultTimeProvider};
use trust::{
    bundle::{FollowError, Trust, TrustTextError},
    certificate::{CertificateError, NodeCertificate},
    folder::{FolderError, IdentityFolder},
    identity::any_server_name,
    key::RequestError,
    tls::{Believe, ConfigError, Present, Reloading, client_config},
};

use super::ways::{Servers, WaysError};
use crate::{clock::Clock, config::Config, host::chain};

/// Clocks are set, hosts are suspended: nobody sleeps for sixty days.
const LOOK: Duration = Duration::from_secs(600);
const TRY_AGAIN: Duration = Duration::from_secs(1);
const TRY_AGAIN_MAX: Duration = Duration::from_secs(600);
const PATIENCE: Patience = Patience { connect: Duration::from_secs(5), silence: Duration::from_secs(5) };

#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error("there is no certificate to renew")]
    NoCertificate,
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Ways(#[from] WaysError),
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the server refuses: {}", .0.message())]
    Refused(#[from] tonic::Status),
    #[error(transparent)]
    Bundle(#[from] TrustTextError),
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Ends with the process.
pub(super) async fn keep_valid(data_dir: PathBuf, config: Arc<Reloading<ClientConfig>>, clock: Clock) {
    let mut pause = TRY_AGAIN;
    let mut turn = 0;
    loop {
        let wait = match step(&data_dir, &config, clock, turn).await {
            Ok(due) => {
                pause = TRY_AGAIN;
                Duration::from_millis(due.since(clock.now()).0).clamp(TRY_AGAIN, LOOK)
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "this node's certificate is not renewed");
                pause = (pause * 2).min(TRY_AGAIN_MAX);
                turn += 1;
                pause
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// Renews if it is time, at the server whose turn it is, and says when it is next.
async fn step(
    data_dir: &std::path::Path,
    config: &Reloading<ClientConfig>,
    clock: Clock,
    turn: usize,
) -> Result<Timestamp, RenewError> {
    let folder = IdentityFolder::open(&Config::trust_dir(data_dir))?;
    let stored = folder.load()?.ok_or(RenewError::NoCertificate)?;
    let identity = stored.credentials.identity();
    let due = stored.credentials.certificate().validity().renews_at(identity.node.0);
    if clock.now() < due {
        return Ok(due);
    }
    let servers = Servers::read(Config::servers_path(data_dir))?;
    let (address, name) = (servers.in_turn(turn), any_server_name(identity.cluster));
    let channel = dial(Way::Tls { address, name, config: config.current() }, PATIENCE).await?;
    let request = folder.next_key()?.request()?;
    let request = v1::RenewRequest { certificate_request: request.der().to_vec().into() };
    let answer = JoinClient::new(channel).renew(request).await?.into_inner();
    let believed = stored.trust.follow(Trust::from_pem(&answer.trust)?)?;
    folder.believe(&believed)?;
    let credentials = folder.install(NodeCertificate::from_pem(&answer.certificate)?)?;
    let next = credentials.certificate().validity().renews_at(identity.node.0);
    let (own, trust) = (Present::Certificate(&credentials), Believe::Trust(&believed));
    config.replace(client_config(own, trust, Arc::new(DefaultTimeProvider))?);
    tracing::info!(next = next.0, "this node's certificate is renewed");
    Ok(next)
}
