//! This server's own certificate, renewed when two thirds of its life are over, without a restart.
//!
//! Every server holds the authority, so it asks nobody. Connections that stand go on with what they began with.

use std::{path::PathBuf, sync::Arc, time::Duration};

use model::{Millis, Timestamp};
use rustls::{ClientConfig, ServerConfig, time_provider::DefaultTimeProvider};
use store::State;
use trust::{
    authority::AuthorityError,
    bundle::{FollowError, Trust, TrustTextError},
    folder::{FolderError, IdentityFolder, Stored},
    identity::Identity,
    key::RequestError,
    tls::{Believe, ConfigError, Present, Reloading, client_config, server_config},
};

use crate::{brain::Brain, chain::chain, clock, joins::sign};

/// Clocks are set, hosts are suspended: nobody sleeps for sixty days.
const LOOK: Duration = Duration::from_secs(600);
const TRY_AGAIN: Duration = Duration::from_secs(1);
const TRY_AGAIN_MAX: Duration = Duration::from_secs(600);

/// What a renewal replaces.
#[derive(Debug)]
pub(crate) struct Renewing {
    pub(crate) folder: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) lifetime: Millis,
    pub(crate) serves: Arc<Reloading<ServerConfig>>,
    pub(crate) dials: Arc<Reloading<ClientConfig>>,
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
    Follow(#[from] FollowError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("the cluster's authority cannot sign")]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Ends with the process.
pub(crate) async fn keep_valid(renewing: Renewing, brain: Brain) {
    let renewing = Arc::new(renewing);
    let mut pause = TRY_AGAIN;
    loop {
        let (renewing, state) = (renewing.clone(), brain.newest().state);
        let step = tokio::task::spawn_blocking(move || renewing.step(&state, clock::now()));
        let wait = match step.await {
            Ok(Ok(due)) => {
                pause = TRY_AGAIN;
                Duration::from_millis(due.since(clock::now()).0).clamp(TRY_AGAIN, LOOK)
            }
            Ok(Err(error)) => {
                tracing::warn!(error = chain(&error), "this server's certificate is not renewed");
                pause = (pause * 2).min(TRY_AGAIN_MAX);
                pause
            }
            Err(error) => {
                tracing::error!(%error, "this server's certificate is not renewed");
                TRY_AGAIN_MAX
            }
        };
        tokio::time::sleep(wait).await;
    }
}

impl Renewing {
    /// Renews if it is time, and says when it is next.
    fn step(&self, state: &State, now: Timestamp) -> Result<Timestamp, RenewError> {
        let folder = IdentityFolder::open(&self.folder)?;
        let stored = folder.load()?.ok_or(RenewError::NoCertificate)?;
        let due = stored.credentials.certificate().validity().renews_at(self.identity.node.0);
        if now < due {
            return Ok(due);
        }
        let trust = state.trust().ok_or(RenewError::NoAuthority)?;
        let believed = stored.trust.follow(Trust::from_pem(&trust.bundle)?)?;
        folder.believe(&believed)?;
        let request = folder.next_key()?.request()?;
        let credentials = folder.install(sign(trust, &request, self.identity, now, self.lifetime)?)?;
        let next = credentials.certificate().validity().renews_at(self.identity.node.0);
        self.present(&Stored { credentials, trust: believed })?;
        tracing::info!(next = next.0, "this server's certificate is renewed");
        Ok(next)
    }

    fn present(&self, stored: &Stored) -> Result<(), RenewError> {
        let (own, trust) = (&stored.credentials, &stored.trust);
        self.serves.replace(server_config(own, trust, Arc::new(DefaultTimeProvider))?);
        let (own, trust) = (Present::Certificate(own), Believe::Trust(trust));
        self.dials.replace(client_config(own, trust, Arc::new(DefaultTimeProvider))?);
        Ok(())
    }
}
