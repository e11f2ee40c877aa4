//! Which authorities a host believes, and how a cluster goes from one authority to the next while it serves.
//!
//! A rotation has three steps, and each is another [`Stage`]:
//!
//! 1. [`Trust::introduce`]: hosts believe the old and the new authority; the old one still signs.
//! 2. [`Trust::switch`]: once every host believes both, the new one signs. Hosts ask for new certificates.
//! 3. [`Trust::retire`]: once every host's certificate is by the new one, the old one is believed no more.
//!
//! A step that comes too early would cut off hosts, so it is refused with the hosts that it waits for. Each step is a new
//! generation of the bundle; a host takes only newer ones ([`Trust::follow`]), and only those that it can tie to what it
//! believes already.

use std::{collections::BTreeMap, fmt, sync::Arc};

use model::{Belief, ClusterId, NodeId};
use rustls::RootCertStore;
use zeroize::Zeroizing;

use crate::{
    certificate::{AuthorityCertificate, CertificateError},
    pem::{self, PemError},
};

/// One generation of what hosts believe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    generation: u64,
    stage: Stage,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// One authority, no rotation under way.
    Settled { signer: AuthorityCertificate },
    /// The next authority is being made known; it signs nothing yet.
    Introduced { signer: AuthorityCertificate, next: AuthorityCertificate },
    /// The new authority signs; what the old one signed is still believed.
    Switched { signer: AuthorityCertificate, old: AuthorityCertificate },
}

/// Every host of a cluster, and how far it is; `None` of one that has not said so since the rotation began.
pub type Hosts = BTreeMap<NodeId, Option<Belief>>;

/// Why a rotation does not take its next step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RotationError {
    #[error("a rotation is under way: finish it before the next authority is introduced")]
    UnderWay,
    #[error("the next authority is the one that signs already; make another")]
    Same,
    #[error("the next authority is of cluster {theirs}, not of {ours}")]
    OtherCluster { ours: ClusterId, theirs: ClusterId },
    #[error("no authority was introduced: a rotation begins with introducing the next one")]
    NotIntroduced,
    #[error("the next authority does not sign yet: switch to it before the old one is retired")]
    NotSwitched,
    #[error("the new authority signs already, so going back would cut off hosts; rotate once more instead")]
    TooLate,
    #[error("{} not yet {doing}: {}; wait for them, or remove those that are gone", hosts(.0), list(.0), doing = .1)]
    NotYet(Vec<NodeId>, Lacking),
}

/// What a rotation waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacking {
    Belief,
    Certificate,
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lacking::Belief => "believe the new authority",
            Lacking::Certificate => "have a certificate by the new authority",
        })
    }
}

fn hosts(nodes: &[NodeId]) -> String {
    match nodes.len() {
        1 => "1 host does".to_owned(),
        many => format!("{many} hosts do"),
    }
}

fn list(nodes: &[NodeId]) -> String {
    let nodes: Vec<String> = nodes.iter().map(NodeId::to_string).collect();
    nodes.join(", ")
}

/// Why a host does not take a bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    #[error("the bundle is of cluster {theirs}, this host of {ours}")]
    OtherCluster { ours: ClusterId, theirs: ClusterId },
    #[error("the bundle has generation {offered}, this host has {known} already")]
    Older { known: u64, offered: u64 },
    #[error("there are two different bundles of generation {0}; join again with a token")]
    Contradiction(u64),
    #[error(
        "nothing ties the bundle of generation {0} to what this host believes: it missed a rotation; join again with a token"
    )]
    Untied(u64),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustTextError {
    #[error("the trust bundle is damaged")]
    Pem(#[from] PemError),
    #[error("the trust bundle is damaged")]
    Certificate(#[from] CertificateError),
    #[error(
        "the trust bundle begins with {0:?}, not with `wharf-trust 1 generation N STAGE`: was it written by a newer version?"
    )]
    Header(String),
    #[error("the trust bundle has authorities of two clusters, or one twice")]
    Mixed,
}

impl Trust {
    /// Of a new cluster.
    pub fn new(signer: AuthorityCertificate) -> Trust {
        Trust { generation: 1, stage: Stage::Settled { signer } }
    }

    pub fn cluster(&self) -> ClusterId {
        self.signer().cluster()
    }

    /// Grows by one with each step.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// The one whose key signs certificates now.
    pub fn signer(&self) -> &AuthorityCertificate {
        match &self.stage {
            Stage::Settled { signer } | Stage::Introduced { signer, .. } | Stage::Switched { signer, .. } => {
                signer
            }
        }
    }

    /// All that are believed, the signer first.
    pub fn authorities(&self) -> Vec<&AuthorityCertificate> {
        match &self.stage {
            Stage::Settled { signer } => vec![signer],
            Stage::Introduced { signer, next: other } | Stage::Switched { signer, old: other } => {
                vec![signer, other]
            }
        }
    }

    pub fn believes(&self, authority: &AuthorityCertificate) -> bool {
        self.authorities().contains(&authority)
    }

    /// First step.
    pub fn introduce(&self, next: AuthorityCertificate) -> Result<Trust, RotationError> {
        let Stage::Settled { signer } = &self.stage else { return Err(RotationError::UnderWay) };
        if next.cluster() != self.cluster() {
            return Err(RotationError::OtherCluster { ours: self.cluster(), theirs: next.cluster() });
        }
        if next.pin() == signer.pin() {
            return Err(RotationError::Same);
        }
        Ok(self.step(Stage::Introduced { signer: signer.clone(), next }))
    }

    /// Second step; `hosts` is every host of the cluster.
    pub fn switch(&self, hosts: &Hosts) -> Result<Trust, RotationError> {
        match &self.stage {
            Stage::Settled { .. } => Err(RotationError::NotIntroduced),
            Stage::Switched { .. } => Err(RotationError::UnderWay),
            Stage::Introduced { signer, next } => {
                self.all(hosts, Lacking::Belief)?;
                Ok(self.step(Stage::Switched { signer: next.clone(), old: signer.clone() }))
            }
        }
    }

    /// Third step; `hosts` is every host of the cluster.
    pub fn retire(&self, hosts: &Hosts) -> Result<Trust, RotationError> {
        match &self.stage {
            Stage::Settled { .. } => Err(RotationError::NotIntroduced),
            Stage::Introduced { .. } => Err(RotationError::NotSwitched),
            Stage::Switched { signer, .. } => {
                self.all(hosts, Lacking::Certificate)?;
                Ok(self.step(Stage::Settled { signer: signer.clone() }))
            }
        }
    }

    /// Gives the rotation up, as long as the next authority has signed nothing.
    pub fn abandon(&self) -> Result<Trust, RotationError> {
        match &self.stage {
            Stage::Settled { .. } => Err(RotationError::NotIntroduced),
            Stage::Switched { .. } => Err(RotationError::TooLate),
            Stage::Introduced { signer, .. } => Ok(self.step(Stage::Settled { signer: signer.clone() })),
        }
    }

    /// Whether a host has to ask for a new certificate because its authority is about to retire.
    pub fn outdates(&self, authority: &AuthorityCertificate) -> bool {
        match &self.stage {
            Stage::Settled { signer } | Stage::Switched { signer, .. } => authority.pin() != signer.pin(),
            Stage::Introduced { .. } => false,
        }
    }

    /// A host that believes `self` was given `offered`, over a connection that it trusts.
    pub fn follow(&self, offered: Trust) -> Result<Trust, FollowError> {
        if offered.cluster() != self.cluster() {
            return Err(FollowError::OtherCluster { ours: self.cluster(), theirs: offered.cluster() });
        }
        if offered.generation < self.generation {
            return Err(FollowError::Older { known: self.generation, offered: offered.generation });
        }
        if offered.generation == self.generation && offered != *self {
            return Err(FollowError::Contradiction(self.generation));
        }
        if !offered.authorities().into_iter().any(|authority| self.believes(authority)) {
            return Err(FollowError::Untied(offered.generation));
        }
        Ok(offered)
    }

    pub(crate) fn roots(&self) -> Result<Arc<RootCertStore>, rustls::Error> {
        let mut roots = RootCertStore::empty();
        for authority in self.authorities() {
            roots.add(authority.der().clone())?;
        }
        Ok(Arc::new(roots))
    }

    fn step(&self, stage: Stage) -> Trust {
        Trust { generation: self.generation + 1, stage }
    }

    fn all(&self, hosts: &Hosts, lacking: Lacking) -> Result<(), RotationError> {
        let signer = self.signer().pin();
        let is_there = |belief: &Belief| match lacking {
            Lacking::Belief => belief.generation >= self.generation,
            Lacking::Certificate => belief.signed_by.is_none_or(|by| by == signer),
        };
        let behind = hosts.iter().filter(|(_, belief)| !belief.as_ref().is_some_and(is_there));
        let behind: Vec<NodeId> = behind.map(|(node, _)| *node).collect();
        if behind.is_empty() { Ok(()) } else { Err(RotationError::NotYet(behind, lacking)) }
    }

    /// A line that says what it is, then the certificates. Nothing in it is secret.
    pub fn to_pem(&self) -> String {
        let stage = match &self.stage {
            Stage::Settled { .. } => SETTLED,
            Stage::Introduced { .. } => INTRODUCED,
            Stage::Switched { .. } => SWITCHED,
        };
        let mut text = Zeroizing::new(format!("{HEADER} {} {stage}\n", self.generation));
        for authority in self.authorities() {
            pem::write(pem::CERTIFICATE, authority.der(), &mut text);
        }
        std::mem::take(&mut text)
    }

    /// Whether a text that [`Trust::to_pem`] wrote is of no rotation; reads its first line only.
    pub fn is_settled(text: &str) -> bool {
        text.lines().next().is_some_and(|header| header.ends_with(SETTLED))
    }

    pub fn from_pem(text: &str) -> Result<Trust, TrustTextError> {
        let document = pem::read(text)?;
        let unknown = || TrustTextError::Header(document.text.join(" "));
        let [header] = document.text.as_slice() else { return Err(unknown()) };
        let words = header.strip_prefix(HEADER).and_then(|rest| rest.trim_start().split_once(' '));
        let (generation, stage) = words.ok_or_else(unknown)?;
        let generation = generation.parse().map_err(|_| unknown())?;
        if stage == SETTLED {
            let [signer] = document.exactly([pem::CERTIFICATE])?;
            let signer = AuthorityCertificate::from_der(&signer)?;
            return Ok(Trust { generation, stage: Stage::Settled { signer } });
        }
        let make = match stage {
            INTRODUCED => |signer, next| Stage::Introduced { signer, next },
            SWITCHED => |signer, old| Stage::Switched { signer, old },
            _ => return Err(unknown()),
        };
        let [signer, other] = document.exactly([pem::CERTIFICATE, pem::CERTIFICATE])?;
        let signer = AuthorityCertificate::from_der(&signer)?;
        let other = AuthorityCertificate::from_der(&other)?;
        if signer.cluster() != other.cluster() || signer.pin() == other.pin() {
            return Err(TrustTextError::Mixed);
        }
        Ok(Trust { generation, stage: make(signer, other) })
    }
}

const HEADER: &str = "wharf-trust 1 generation";
const SETTLED: &str = "settled";
const INTRODUCED: &str = "introduced";
const SWITCHED: &str = "switched";
