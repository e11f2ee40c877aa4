//! The agent's certificate, renewed when two thirds of its life are over or its authority is about to go, and whom it
//! believes; without a restart.
//!
//! Any server answers. The session that stands goes on with what it began with; the next one begins with the new certificate.

use std::{path::PathBuf, sync::Arc};

use dial::{DialError, Way, dial};
use model::{Belief, Timestamp};
use proto::v1::{self, join_client::JoinClient};
use rustls::{ClientConfig, time_provider::DefaultTimeProvider};
use tokio::sync::watch;
use trust::{
    bundle::{Trust, TrustTextError},
    certificate::{CertificateError, NodeCertificate},
    folder::{FolderError, IdentityFolder, Stored},
    identity::any_server_name,
    key::RequestError,
    tls::{ConfigError, Reloading},
};

use super::{
    PATIENCE,
    ways::{Servers, WaysError},
};
use crate::{clock, config::Config};

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
    #[error(
        "the certificate is by an authority that is about to go: the server that was asked has not heard so yet"
    )]
    Behind,
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

/// What this host knows its cluster by, kept current.
#[derive(Debug)]
pub(super) struct Renewing {
    pub(super) data_dir: PathBuf,
    pub(super) config: Arc<Reloading<ClientConfig>>,
    /// The newest bundle that a leader told.
    pub(super) offered: watch::Receiver<String>,
    /// What is true of this host, durably.
    pub(super) belief: watch::Sender<Belief>,
}

impl Renewing {
    /// Never ends.
    pub(super) async fn keep_valid(self) {
        let news = self.offered.clone();
        dial::renewal::keep_valid(clock::wall, news, |failed| self.step(failed)).await;
    }

    /// Follows the bundle that was told, renews if it is time, at the server whose turn it is, and says when it is next.
    async fn step(&self, turn: usize) -> Result<Timestamp, RenewError> {
        let folder = IdentityFolder::open(&Config::trust_dir(&self.data_dir))?;
        let mut stored = folder.load()?.ok_or(RenewError::NoCertificate)?;
        let offered = self.offered.borrow().clone();
        if !offered.is_empty() {
            let offered = Trust::from_pem(&offered)?;
            if offered.generation() > stored.trust.generation() {
                stored = folder.follow(stored, offered)?;
                self.changed(&stored)?;
            }
        }
        if stored.is_due(clock::wall()) {
            stored = self.renew(&folder, stored, turn).await?;
            self.changed(&stored)?;
            tracing::info!("this node's certificate is renewed");
            if stored.is_due(clock::wall()) {
                return Err(RenewError::Behind);
            }
        }
        Ok(stored.renews_at())
    }

    async fn renew(
        &self,
        folder: &IdentityFolder,
        stored: Stored,
        turn: usize,
    ) -> Result<Stored, RenewError> {
        let servers = Servers::read(Config::servers_path(&self.data_dir))?;
        let name = any_server_name(stored.credentials.identity().cluster);
        let way = Way::Tls { address: servers.in_turn(turn), name, config: self.config.current() };
        let request = folder.next_key()?.request()?;
        let request = v1::RenewRequest { certificate_request: request.der().to_vec().into() };
        let answer = JoinClient::new(dial(way, PATIENCE).await?).renew(request).await?.into_inner();
        let (bundle, certificate) =
            (Trust::from_pem(&answer.trust)?, NodeCertificate::from_pem(&answer.certificate)?);
        Ok(folder.renew(&stored.trust, bundle, certificate)?)
    }

    /// For the next connection, and for the leader.
    fn changed(&self, stored: &Stored) -> Result<(), ConfigError> {
        self.config.replace(stored.client_config(Arc::new(DefaultTimeProvider))?);
        self.belief.send_replace(stored.belief());
        Ok(())
    }
}
