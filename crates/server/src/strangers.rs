//! Connections of whoever has no certificate: so many at once, and only for so long, until a token was shown over them.
//!
//! Such a connection costs memory before anything is known of whoever made it. Hosts of the cluster are not counted, so
//! strangers keep out nobody but each other.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};

/// How many may be unknown at once. Each may send a megabyte or so that nobody reads.
const AT_ONCE: usize = 256;
/// How long one may be unknown. A host that joins has to be done by then, too.
const FOR: Duration = Duration::from_secs(60);

/// Who is let in without a certificate.
#[derive(Clone, Debug)]
pub(crate) struct Strangers {
    turns: Arc<Semaphore>,
    may_be_unknown: Duration,
}

impl Strangers {
    pub(crate) fn new() -> Strangers {
        Strangers { turns: Arc::new(Semaphore::new(AT_ONCE)), may_be_unknown: FOR }
    }

    /// None where there are too many already.
    pub(crate) fn admit(&self) -> Option<(Probation, Deadline)> {
        let turn = self.turns.clone().try_acquire_owned().ok()?;
        let probation =
            Probation(Arc::new(Unknown { is_over: AtomicBool::new(false), turn: Some(turn).into() }));
        Some((probation.clone(), Deadline { probation, at: Box::pin(sleep(self.may_be_unknown)) }))
    }
}

/// Of one connection. Clones are of the same.
#[derive(Clone)]
pub(crate) struct Probation(Arc<Unknown>);

struct Unknown {
    is_over: AtomicBool,
    turn: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Probation {
    /// A token was shown that the cluster knows.
    pub(crate) fn passed(&self) {
        self.0.is_over.store(true, Ordering::Relaxed);
        drop(self.0.turn.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl fmt::Debug for Probation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Probation").field(&self.0.is_over).finish()
    }
}

/// When the connection ends, unless the probation is passed before.
#[derive(Debug)]
pub(crate) struct Deadline {
    probation: Probation,
    at: Pin<Box<Sleep>>,
}

impl Deadline {
    /// Whether it is over; wakes the task when it is.
    pub(crate) fn has_passed(&mut self, context: &mut Context<'_>) -> bool {
        !self.probation.0.is_over.load(Ordering::Relaxed) && self.at.as_mut().poll(context) == Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn only_so_many_strangers_are_let_in_and_only_for_so_long() {
        let strangers = Strangers { may_be_unknown: Duration::from_millis(20), ..Strangers::new() };
        let mut all: Vec<_> = (0..AT_ONCE).map_while(|_| strangers.admit()).collect();
        assert_eq!(all.len(), AT_ONCE);
        assert!(strangers.admit().is_none());
        // One shows a token: there is room for another, and it stays.
        let (probation, mut known) = all.remove(0);
        probation.passed();
        let (_, mut unknown) = strangers.admit().unwrap();
        poll_fn(|context| match unknown.has_passed(context) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
        assert!(!poll_fn(|context| Poll::Ready(known.has_passed(context))).await);
        drop(all);
        assert!(strangers.admit().is_some(), "whoever has gone makes room");
    }
}
