//! The servers of one cluster, of which any that answers will do: they are tried in turn, and the one that answered is kept
//! until its connection breaks.

use std::{
    error::Error,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dial::{DialError, Patience, Way, dial};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tonic::transport::Channel;

use crate::exit::Failure;

const PATIENCE: Patience = Patience { connect: Duration::from_secs(5), silence: Duration::from_secs(15) };
/// The next address is tried beside the one that has not answered for so long: a host that is off answers nothing at all.
const STAGGER: Duration = Duration::from_millis(250);

/// Clones share the connection.
#[derive(Clone)]
pub struct Reach {
    ways: Arc<[Way]>,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Clone, Default)]
struct Kept {
    channel: Option<Channel>,
    /// Which way to try first.
    first: usize,
}

/// No server answers at any address.
#[derive(Debug)]
pub struct Unreachable {
    pub tried: Vec<DialError>,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no server can be reached: ")?;
        for (index, error) in self.tried.iter().enumerate() {
            let gap = if index == 0 { "" } else { "; " };
            write!(f, "{gap}{}: {}", error.way, reason(error))?;
        }
        Ok(())
    }
}

impl Error for Unreachable {}

/// In one line.
pub fn reason(error: &DialError) -> String {
    if let Some(words) = trust::tls::explain(error) {
        return words;
    }
    // The lowest says what happened, the others only that something did.
    let mut lowest: &(dyn Error + 'static) = error.source.as_ref();
    while let Some(next) = lowest.source() {
        lowest = next;
    }
    lowest.to_string()
}

impl Reach {
    pub fn new(ways: Vec<Way>) -> Reach {
        Reach { ways: ways.into(), kept: Arc::default() }
    }

    pub fn has_several(&self) -> bool {
        self.ways.len() > 1
    }

    pub async fn channel(&self) -> Result<Channel, Unreachable> {
        let first = {
            let kept = self.kept();
            match &kept.channel {
                Some(channel) => return Ok(channel.clone()),
                None => kept.first,
            }
        };
        let (found, channel) = self.find(first).await?;
        let mut kept = self.kept();
        (kept.channel, kept.first) = (Some(channel.clone()), found);
        Ok(channel)
    }

    /// The connection has broken: another server is asked next.
    pub fn lost(&self) {
        let mut kept = self.kept();
        if kept.channel.take().is_some() {
            kept.first = (kept.first + 1) % self.ways.len();
        }
    }

    /// The same servers over a connection of its own, first those that are not asked now.
    pub fn elsewhere(&self) -> Reach {
        let first = (self.kept().first + 1) % self.ways.len();
        Reach { ways: self.ways.clone(), kept: Arc::new(Mutex::new(Kept { channel: None, first })) }
    }

    /// From now on over the connection of this one.
    pub fn go_on_at(&self, other: &Reach) {
        let other = other.kept().clone();
        *self.kept() = other;
    }

    async fn find(&self, first: usize) -> Result<(usize, Channel), Unreachable> {
        let count = self.ways.len();
        let mut waiting = (0..count).map(|next| (first + next) % count);
        let mut dialling = FuturesUnordered::new();
        let mut tried = Vec::new();
        loop {
            if let Some(next) = waiting.next() {
                let way = self.ways[next].clone();
                dialling.push(async move { dial(way, PATIENCE).await.map(|channel| (next, channel)) });
            }
            let pause = if waiting.len() > 0 { STAGGER } else { Duration::MAX };
            match tokio::time::timeout(pause, dialling.next()).await {
                Ok(Some(Ok(found))) => return Ok(found),
                Ok(Some(Err(error))) => tried.push(error),
                Ok(None) => return Err(Unreachable { tried }),
                Err(_) => {}
            }
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unreachable {
    pub fn into_failure(self, named: &str) -> Failure {
        let failure = Failure::new(format!("no server of {named} can be reached"));
        let failure = self
            .tried
            .iter()
            .fold(failure, |failure, error| failure.because(format!("{}: {}", error.way, reason(error))));
        failure.help("look at firewalls between, and whether the addresses are right: `wharf context show`")
    }
}
