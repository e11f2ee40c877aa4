//! Connections of whoever has no certificate: so many at once, and only for so long, until a token was shown over them.
//!
//! Such a connection costs memory before anything is known of whoever made it, so there are few places. A newcomer never
//! finds them taken: whoever has shown nothing gives way, and first the oldest of the address that holds most, since a user
//! shows a token as soon as it can, and whoever fills a server comes from few addresses. Over which connection a token was
//! shown, that one is no stranger's any more: it has a place among more, and keeps it.
//!
//! Hosts of the cluster are not counted.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    net::{IpAddr, Ipv6Addr},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Context,
    time::{Duration, Instant},
};

use tokio::{
    sync::oneshot,
    time::{Sleep, sleep},
};

/// How many may be unknown at once. Each may send a megabyte or so that nobody reads.
const AT_ONCE: usize = 256;
/// The share of one address: many users may be behind one, and each is unknown only for a moment.
const FROM_ONE: usize = 64;
/// How many may be connected that have shown a token.
const USERS: usize = 4_096;
/// How long one may be unknown. A host that joins has to be done by then, too.
const FOR: Duration = Duration::from_secs(60);
/// How often it is told that strangers push.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// Who is let in without a certificate. Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Strangers {
    places: Arc<Mutex<Places>>,
    users: usize,
    may_be_unknown: Duration,
}

#[derive(Debug, Default)]
struct Places {
    next: u64,
    /// By their numbers, so that the oldest is the first.
    unknown: BTreeMap<u64, Unknown>,
    users: usize,
    told: Option<Instant>,
}

#[derive(Debug)]
struct Unknown {
    from: IpAddr,
    /// Dropping it ends the connection.
    _stays: oneshot::Sender<()>,
}

/// Too many users are connected: this one stays a stranger.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("this server has as many connections of users as it takes; try again shortly, or ask another server")]
pub(crate) struct Full;

impl Strangers {
    pub(crate) fn new() -> Strangers {
        Strangers { places: Arc::default(), users: USERS, may_be_unknown: FOR }
    }

    /// Another one gives way where there are too many already.
    pub(crate) fn admit(&self, from: IpAddr) -> (Probation, Deadline) {
        let (stays, gives_way) = oneshot::channel();
        let mut places = self.places();
        places.make_room(network(from));
        let number = places.next;
        places.next += 1;
        places.unknown.insert(number, Unknown { from: network(from), _stays: stays });
        drop(places);
        let one = One { number, is_over: AtomicBool::new(false), strangers: self.clone() };
        let probation = Probation(Arc::new(one));
        let at = Box::pin(sleep(self.may_be_unknown));
        (probation.clone(), Deadline { probation, gives_way, at, passed: None })
    }

    /// A panic while holding the lock leaves the counts as they are.
    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    /// For another one from there.
    fn make_room(&mut self, from: IpAddr) {
        let mut held: BTreeMap<IpAddr, usize> = BTreeMap::new();
        self.unknown.values().for_each(|unknown| *held.entry(unknown.from).or_default() += 1);
        let fullest = if held.get(&from).is_some_and(|held| *held >= FROM_ONE) {
            from
        } else if self.unknown.len() >= AT_ONCE
            && let Some((fullest, _)) = held.into_iter().max_by_key(|(_, held)| *held)
        {
            fullest
        } else {
            return;
        };
        let oldest = self.unknown.iter().find(|(_, unknown)| unknown.from == fullest);
        let Some(oldest) = oldest.map(|(number, _)| *number) else { return };
        self.unknown.remove(&oldest);
        if self.told.is_none_or(|told| told.elapsed() >= TELL_AGAIN) {
            self.told = Some(Instant::now());
            tracing::warn!(from = %fullest, "too many are connected that have shown no token: the oldest give way");
        }
    }
}

/// Whose share an address counts to. A host has a whole network of the sixth version's, in which it takes any address.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

/// Of one connection. Clones are of the same.
#[derive(Clone)]
pub(crate) struct Probation(Arc<One>);

struct One {
    number: u64,
    is_over: AtomicBool,
    strangers: Strangers,
}

impl Probation {
    /// A token was shown that the cluster knows.
    pub(crate) fn passed(&self) -> Result<(), Full> {
        let One { number, is_over, strangers } = &*self.0;
        if is_over.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut places = strangers.places();
        if places.users >= strangers.users {
            return Err(Full);
        }
        // One that has given way already is about to end.
        if let Some(unknown) = places.unknown.remove(number) {
            places.users += 1;
            is_over.store(true, Ordering::Relaxed);
            drop(unknown);
        }
        Ok(())
    }
}

impl fmt::Debug for Probation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Probation").field(&self.0.is_over).finish()
    }
}

/// Belongs to the connection, and says when that ends unless the probation is passed before. Dropping it makes room.
#[derive(Debug)]
pub(crate) struct Deadline {
    probation: Probation,
    gives_way: oneshot::Receiver<()>,
    at: Pin<Box<Sleep>>,
    passed: Option<&'static str>,
}

impl Deadline {
    /// Why the connection ends, if it does; wakes the task when that changes.
    pub(crate) fn has_passed(&mut self, context: &mut Context<'_>) -> Option<&'static str> {
        let is_over = &self.probation.0.is_over;
        if self.passed.is_none() && !is_over.load(Ordering::Relaxed) {
            if Pin::new(&mut self.gives_way).poll(context).is_ready() {
                // Who passes is told the same way.
                self.passed = (!is_over.load(Ordering::Relaxed)).then_some("it gave way to another");
            } else if self.at.as_mut().poll(context).is_ready() {
                self.passed = Some("no token was shown in time");
            }
        }
        self.passed
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let One { number, is_over, strangers } = &*self.probation.0;
        let mut places = strangers.places();
        if places.unknown.remove(number).is_none() && is_over.load(Ordering::Relaxed) {
            places.users -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Poll};

    use super::*;

    async fn ends(deadline: &mut Deadline) -> &'static str {
        let ends = poll_fn(|context| deadline.has_passed(context).map_or(Poll::Pending, Poll::Ready));
        tokio::time::timeout(Duration::from_secs(20), ends).await.unwrap()
    }

    async fn goes_on(deadline: &mut Deadline) -> bool {
        poll_fn(|context| Poll::Ready(deadline.has_passed(context).is_none())).await
    }

    fn address(number: usize) -> IpAddr {
        [10, 0, 0, number as u8].into()
    }

    #[tokio::test]
    async fn one_is_unknown_only_for_so_long() {
        let strangers = Strangers { may_be_unknown: Duration::from_millis(20), ..Strangers::new() };
        let (probation, mut known) = strangers.admit(address(1));
        probation.passed().unwrap();
        let (_, mut unknown) = strangers.admit(address(1));
        assert_eq!(ends(&mut unknown).await, "no token was shown in time");
        assert!(goes_on(&mut known).await);
    }

    #[tokio::test]
    async fn an_address_that_takes_more_than_its_share_keeps_out_nobody_but_its_own() {
        let strangers = Strangers::new();
        let (_, mut other) = strangers.admit(address(0));
        let (known, mut user) = strangers.admit(address(1));
        known.passed().unwrap();
        let mut all: Vec<_> = (0..=FROM_ONE).map(|_| strangers.admit(address(1))).collect();
        assert_eq!(ends(&mut all[0].1).await, "it gave way to another");
        assert!(goes_on(&mut all[1].1).await);
        assert!(goes_on(&mut other).await && goes_on(&mut user).await);
        // Who gave way does not come back by a token.
        all[0].0.passed().unwrap();
        assert!(!goes_on(&mut all[0].1).await);
    }

    #[tokio::test]
    async fn a_newcomer_finds_room_where_the_fullest_gives_way() {
        let strangers = Strangers::new();
        let (_, mut first) = strangers.admit(address(0));
        let mut all: Vec<_> = (1..AT_ONCE).map(|number| strangers.admit(address(1 + number % 8))).collect();
        let (_, mut newcomer) = strangers.admit(address(100));
        assert!(goes_on(&mut first).await && goes_on(&mut newcomer).await);
        let mut ended = 0;
        for (_, deadline) in &mut all {
            ended += usize::from(!goes_on(deadline).await);
        }
        assert_eq!(ended, 1);
        drop(all);
        assert_eq!(strangers.places().unknown.len(), 2, "whoever has gone makes room");
    }

    #[tokio::test]
    async fn users_have_places_of_their_own() {
        let strangers = Strangers { users: 1, ..Strangers::new() };
        let (one, mut first) = strangers.admit(address(1));
        let (two, second) = strangers.admit(address(1));
        one.passed().unwrap();
        one.passed().unwrap();
        assert_eq!(two.passed(), Err(Full));
        assert!(goes_on(&mut first).await);
        drop((one, first));
        two.passed().unwrap();
        drop((two, second));
        let places = strangers.places();
        assert_eq!((places.users, places.unknown.len()), (0, 0));
    }

    #[test]
    fn a_network_counts_as_one_address() {
        let network = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:0:1:aaaa::1"), "2001:db8:0:1::");
        assert_eq!(network("::ffff:10.0.0.1"), "10.0.0.1");
    }
}
