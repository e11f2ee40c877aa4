//! The agent's certificate, renewed when two thirds of its life are over, without a restart.
//!
//! Any server answers. The session that stands goes on with what it began with; the next one begins with the new certificate.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use dial::{DialError, Way, dial};
use model::Timestamp;
use proto::v1::{self, join_client::JoinClient};
use rustls::{ClientConfig, time_provider::DefaultTimeProvider};
use trust::{
    bundle::{Trust, TrustTextError},
    certificate::{CertificateError, NodeCertificate},
    folder::{FolderError, IdentityFolder},
    identity::any_server_name,
    key::RequestError,
    tls::{ConfigError, Reloading},
};

use super::{
    PATIENCE,
    ways::{Servers, WaysError},
};
use crate::{clock::Clock, config::Config};

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
    Request(#[from] RequestError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Never ends.
pub(super) async fn keep_valid(data_dir: PathBuf, config: Arc<Reloading<ClientConfig>>, clock: Clock) {
    dial::renewal::keep_valid(|| clock.now(), |failed| step(&data_dir, &config, clock, failed)).await;
}

/// Renews if it is time, at the server whose turn it is, and says when it is next.
async fn step(
    data_dir: &Path,
    config: &Reloading<ClientConfig>,
    clock: Clock,
    turn: usize,
) -> Result<Timestamp, RenewError> {
    let folder = IdentityFolder::open(&Config::trust_dir(data_dir))?;
    let stored = folder.load()?.ok_or(RenewError::NoCertificate)?;
    if clock.now() < stored.renews_at() {
        return Ok(stored.renews_at());
    }
    let servers = Servers::read(Config::servers_path(data_dir))?;
    let name = any_server_name(stored.credentials.identity().cluster);
    let way = Way::Tls { address: servers.in_turn(turn), name, config: config.current() };
    let request = folder.next_key()?.request()?;
    let request = v1::RenewRequest { certificate_request: request.der().to_vec().into() };
    let answer = JoinClient::new(dial(way, PATIENCE).await?).renew(request).await?.into_inner();
    let (bundle, certificate) =
        (Trust::from_pem(&answer.trust)?, NodeCertificate::from_pem(&answer.certificate)?);
    let renewed = folder.renew(&stored.trust, bundle, certificate)?;
    config.replace(renewed.client_config(Arc::new(DefaultTimeProvider))?);
    tracing::info!("this node's certificate is renewed");
    Ok(renewed.renews_at())
}
