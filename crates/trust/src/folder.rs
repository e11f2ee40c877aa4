//! Where a host keeps who it is: `node.key`, `node.crt` and `trust.pem` in a folder of its own.
//!
//! Each file is replaced whole and durably (written beside, flushed, renamed, and the folder flushed). A key and its
//! certificate are two files, and a renewal changes both, so the next key has a file of its own until its certificate is
//! there:
//!
//! 1. [`IdentityFolder::next_key`] writes `next.key` before anybody is asked for a certificate.
//! 2. [`IdentityFolder::install`] writes `node.crt`: from here on the new pair counts.
//! 3. It renames `next.key` to `node.key`. Whoever loads first after a crash between 2 and 3 does it.
//!
//! So at every moment the certificate on the disk has its key on the disk. A renewal that was cut off before 2 goes on with
//! the same key.

mod disk;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use model::{Belief, Timestamp};
use rustls::{ClientConfig, ServerConfig, time_provider::TimeProvider};

use crate::{
    bundle::{FollowError, Trust, TrustTextError},
    certificate::{CertificateError, NodeCertificate},
    identity::Identity,
    key::{KeyError, NodeKey},
    tls::{self, Believe, ConfigError, Credentials, Present},
};
use disk::{Disk, HostDisk, Readers};

#[derive(Debug)]
pub struct IdentityFolder {
    path: PathBuf,
    disk: Box<dyn Disk>,
}

/// All that a host needs to speak to its cluster.
#[derive(Debug)]
pub struct Stored {
    pub credentials: Credentials,
    pub trust: Trust,
}

impl Stored {
    /// Of a server that listens as this host.
    pub fn server_config(&self, clock: Arc<dyn TimeProvider>) -> Result<ServerConfig, ConfigError> {
        tls::server_config(&self.credentials, &self.trust, clock)
    }

    /// Of this host when it dials.
    pub fn client_config(&self, clock: Arc<dyn TimeProvider>) -> Result<ClientConfig, ConfigError> {
        tls::client_config(Present::Certificate(&self.credentials), Believe::Trust(&self.trust), clock)
    }

    /// Whether its certificate is to be renewed now: in time, or because the authority that signed it is about to go.
    pub fn is_due(&self, now: Timestamp) -> bool {
        now >= self.renews_at() || self.trust.outdates(self.credentials.certificate().authority())
    }

    /// What this host says of itself to the leader.
    pub fn belief(&self) -> Belief {
        let signed_by = Some(self.credentials.certificate().authority().pin());
        Belief { generation: self.trust.generation(), signed_by }
    }

    /// When its certificate is to be renewed.
    pub fn renews_at(&self) -> Timestamp {
        let jitter = self.credentials.identity().node.0;
        self.credentials.certificate().validity().renews_at(jitter)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("cannot {doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "{} can be read by other users (mode {mode:03o}); make it private (chmod 600), and join again with a token if \
         someone may have read it", path.display()
    )]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{} is damaged; restore it from a backup, or remove the folder and join again with a token", path.display())]
    Key { path: PathBuf, source: KeyError },
    #[error("{} is damaged; restore it from a backup, or remove the folder and join again with a token", path.display())]
    Certificate { path: PathBuf, source: CertificateError },
    #[error("{} is damaged; restore it from a backup, or remove the folder and join again with a token", path.display())]
    Trust { path: PathBuf, source: TrustTextError },
    #[error(
        "the key and the certificate of {identity} in {} do not belong together; restore both from one backup, or remove \
         the folder and join again with a token", path.display()
    )]
    Mismatch { path: PathBuf, identity: Identity },
    #[error("what {} says cannot be followed by what a server offers", path.display())]
    Follow { path: PathBuf, source: FollowError },
    #[error("{} is missing; restore it from a backup, or remove the folder and join again with a token", path.display())]
    Missing { path: PathBuf },
    #[error(
        "the certificate of {identity} is by an authority that {} does not have; fetch the bundle first", path.display()
    )]
    Disbelieved { path: PathBuf, identity: Identity },
}

const KEY: &str = "node.key";
const NEXT_KEY: &str = "next.key";
const CERTIFICATE: &str = "node.crt";
const TRUST: &str = "trust.pem";

impl IdentityFolder {
    /// Makes the folder where there is none, for this user alone.
    pub fn open(path: &Path) -> Result<IdentityFolder, FolderError> {
        let failed = |source| FolderError::Io { doing: "use the folder", path: path.to_owned(), source };
        let disk = HostDisk::open(path).map_err(failed)?;
        Ok(IdentityFolder { path: path.to_owned(), disk: Box::new(disk) })
    }

    /// `None` on a host that has not joined yet, or was cut off while it did.
    pub fn load(&self) -> Result<Option<Stored>, FolderError> {
        let Some(text) = self.read(CERTIFICATE)? else { return Ok(None) };
        let certificate = NodeCertificate::from_pem(&text)
            .map_err(|source| FolderError::Certificate { path: self.path.join(CERTIFICATE), source })?;
        let credentials = self.pair(certificate)?;
        let trust = self.trust()?.ok_or_else(|| FolderError::Missing { path: self.path.join(TRUST) })?;
        self.check_belief(credentials.certificate(), &trust)?;
        Ok(Some(Stored { credentials, trust }))
    }

    /// What this host believes; there before there is a certificate.
    pub fn trust(&self) -> Result<Option<Trust>, FolderError> {
        let Some(text) = self.read(TRUST)? else { return Ok(None) };
        let read = Trust::from_pem(&text);
        read.map(Some).map_err(|source| FolderError::Trust { path: self.path.join(TRUST), source })
    }

    /// Durable when it returns. That it may follow what was believed, [`Trust::follow`] has said.
    pub fn believe(&self, trust: &Trust) -> Result<(), FolderError> {
        self.replace(TRUST, &trust.to_pem(), Readers::All)
    }

    /// The key to ask for a certificate with: of a renewal that was cut off, or a new one. Durable when it returns.
    pub fn next_key(&self) -> Result<NodeKey, FolderError> {
        if let Some(key) = self.key(NEXT_KEY)? {
            return Ok(key);
        }
        let made = NodeKey::generate();
        let key = made.map_err(|source| FolderError::Key { path: self.path.join(NEXT_KEY), source })?;
        self.replace(NEXT_KEY, &key.to_pem(), Readers::Owner)?;
        Ok(key)
    }

    /// The certificate for [`IdentityFolder::next_key`], by an authority that is believed already. Durable when it returns.
    pub fn install(&self, certificate: NodeCertificate) -> Result<Credentials, FolderError> {
        let identity = certificate.identity();
        let missing = |name| FolderError::Missing { path: self.path.join(name) };
        let trust = self.trust()?.ok_or_else(|| missing(TRUST))?;
        self.check_belief(&certificate, &trust)?;
        let key = self.key(NEXT_KEY)?.ok_or_else(|| missing(NEXT_KEY))?;
        let text = certificate.to_pem();
        let credentials = Credentials::new(key, certificate)
            .map_err(|_| FolderError::Mismatch { path: self.path.clone(), identity })?;
        self.replace(CERTIFICATE, &text, Readers::All)?;
        self.promote()?;
        Ok(credentials)
    }

    /// Another bundle, over a connection that is trusted. One that would leave this host without a certificate that others
    /// believe is refused: it comes again once there is one.
    pub fn follow(&self, stored: Stored, offered: Trust) -> Result<Stored, FolderError> {
        let trust = self.tied(&stored.trust, offered)?;
        self.check_belief(stored.credentials.certificate(), &trust)?;
        self.believe(&trust)?;
        Ok(Stored { trust, ..stored })
    }

    /// A renewal, over a connection that is trusted: the bundle, then the certificate for [`IdentityFolder::next_key`].
    pub fn renew(
        &self,
        known: &Trust,
        offered: Trust,
        certificate: NodeCertificate,
    ) -> Result<Stored, FolderError> {
        let trust = self.tied(known, offered)?;
        self.believe(&trust)?;
        Ok(Stored { credentials: self.install(certificate)?, trust })
    }

    fn tied(&self, known: &Trust, offered: Trust) -> Result<Trust, FolderError> {
        let followed = known.follow(offered);
        followed.map_err(|source| FolderError::Follow { path: self.path.join(TRUST), source })
    }

    /// The certificate with its key, which is the next one if a crash came between the two steps of a renewal.
    fn pair(&self, certificate: NodeCertificate) -> Result<Credentials, FolderError> {
        let mut is_there = false;
        for name in [KEY, NEXT_KEY] {
            let Some(key) = self.key(name)? else { continue };
            is_there = true;
            let Ok(credentials) = Credentials::new(key, certificate.clone()) else { continue };
            if name == NEXT_KEY {
                self.promote()?;
            }
            return Ok(credentials);
        }
        let identity = certificate.identity();
        Err(match is_there {
            true => FolderError::Mismatch { path: self.path.clone(), identity },
            false => FolderError::Missing { path: self.path.join(KEY) },
        })
    }

    fn promote(&self) -> Result<(), FolderError> {
        let done = self.disk.rename(NEXT_KEY, KEY).and_then(|()| self.disk.sync_names());
        done.map_err(self.failed("replace", KEY))
    }

    fn check_belief(&self, certificate: &NodeCertificate, trust: &Trust) -> Result<(), FolderError> {
        if trust.believes(certificate.authority()) {
            return Ok(());
        }
        let identity = certificate.identity();
        Err(FolderError::Disbelieved { path: self.path.join(TRUST), identity })
    }

    fn key(&self, name: &str) -> Result<Option<NodeKey>, FolderError> {
        let mode = self.disk.mode(name).map_err(self.failed("look at", name))?;
        if let Some(mode) = mode.filter(|mode| mode & 0o077 != 0) {
            return Err(FolderError::Exposed { path: self.path.join(name), mode });
        }
        let Some(text) = self.read(name)? else { return Ok(None) };
        let read = NodeKey::from_pem(&text);
        read.map(Some).map_err(|source| FolderError::Key { path: self.path.join(name), source })
    }

    fn read(&self, name: &str) -> Result<Option<zeroize::Zeroizing<String>>, FolderError> {
        self.disk.read(name).map_err(self.failed("read", name))
    }

    /// After a crash the file is the old one or the new one, whole.
    fn replace(&self, name: &str, text: &str, readers: Readers) -> Result<(), FolderError> {
        let unfinished = format!("{name}.tmp");
        let written = self.disk.create(&unfinished, text, readers);
        let written = written.and_then(|()| self.disk.sync(&unfinished));
        let written = written.and_then(|()| self.disk.rename(&unfinished, name));
        written.and_then(|()| self.disk.sync_names()).map_err(self.failed("write", name))
    }

    fn failed(&self, doing: &'static str, name: &str) -> impl FnOnce(io::Error) -> FolderError {
        let path = self.path.join(name);
        move |source| FolderError::Io { doing, path, source }
    }
}
