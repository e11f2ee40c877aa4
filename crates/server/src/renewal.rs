//! This server's own certificate, renewed when two thirds of its life are over or its authority is about to go, and whom it
//! believes; without a restart.
//!
//! Every server holds the authority, so it asks nobody. Connections that stand go on with what they began with.

use std::{path::PathBuf, sync::Arc};

use model::{Belief, Millis, Timestamp};
use rustls::{ClientConfig, ServerConfig, time_provider::DefaultTimeProvider};
use store::State;
use tokio::sync::watch;
use trust::{
    authority::AuthorityError,
    bundle::{Trust, TrustTextError},
    folder::{FolderError, IdentityFolder, Stored},
    identity::Identity,
    key::RequestError,
    tls::{ConfigError, Reloading},
};

use crate::{brain::Brain, clock, joins::sign};

/// What a renewal replaces.
#[derive(Debug)]
pub(crate) struct Renewing {
    pub(crate) folder: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) lifetime: Millis,
    pub(crate) serves: Arc<Reloading<ServerConfig>>,
    pub(crate) dials: Arc<Reloading<ClientConfig>>,
    /// What is true of this server, durably.
    pub(crate) belief: watch::Sender<Belief>,
}

#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error("the state with the cluster's authority has not arrived here yet")]
    NoAuthority,
    #[error("there is no certificate to renew")]
    NoCertificate,
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Bundle(#[from] TrustTextError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("the cluster's authority cannot sign")]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Panicked(tokio::task::JoinError),
}

/// Never ends.
pub(crate) async fn keep_valid(renewing: Renewing, brain: Brain) {
    let renewing = Arc::new(renewing);
    let news = brain.servers();
    let step = |_| {
        let (renewing, state) = (renewing.clone(), brain.newest().state);
        // It writes files.
        let step = tokio::task::spawn_blocking(move || renewing.step(&state, clock::wall()));
        async { step.await.map_err(RenewError::Panicked)? }
    };
    dial::renewal::keep_valid(clock::wall, news, step).await;
}

impl Renewing {
    /// Follows the state's bundle, renews if it is time, and says when it is next.
    fn step(&self, state: &State, now: Timestamp) -> Result<Timestamp, RenewError> {
        let folder = IdentityFolder::open(&self.folder)?;
        let mut stored = folder.load()?.ok_or(RenewError::NoCertificate)?;
        // A server that lags behind may have followed more than its state says by now.
        if let Some(trust) = state.trust()
            && let bundle = Trust::from_pem(&trust.bundle)?
            && bundle.generation() > stored.trust.generation()
        {
            stored = folder.follow(stored, bundle)?;
            self.changed(&stored)?;
        }
        if stored.is_due(now) {
            let trust = state.trust().ok_or(RenewError::NoAuthority)?;
            let request = folder.next_key()?.request()?;
            let certificate = sign(trust, &request, self.identity, now, self.lifetime)?;
            stored = folder.renew(&stored.trust, Trust::from_pem(&trust.bundle)?, certificate)?;
            self.changed(&stored)?;
            tracing::info!("this server's certificate is renewed");
        }
        Ok(stored.renews_at())
    }

    /// For the next connection, and for the leader.
    fn changed(&self, stored: &Stored) -> Result<(), ConfigError> {
        self.serves.replace(stored.server_config(Arc::new(DefaultTimeProvider))?);
        self.dials.replace(stored.client_config(Arc::new(DefaultTimeProvider))?);
        self.belief.send_replace(stored.belief());
        Ok(())
    }
}
