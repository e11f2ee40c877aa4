//! Whose turn it is: who does what waits for the manager.
//!
//! There is a thread for it. On a virtual machine waking it, and being woken by it with the answer, takes about as long as
//! the disk does; so whoever brings something while hardly anything happens takes the turn itself, on a thread that serves
//! connections, and wakes nobody.
//!
//! Invariants:
//! - One at a time takes a turn: who holds the lock of the worker.
//! - What was put is taken: by who holds the lock, who looks again after letting go of it, or by the thread, which is woken.
//! - A connection's thread takes a turn only while turns are quick and have little to do. It never waits for the lock, and
//!   never writes before what was said to other servers is on its way.
//! - Once the worker has ended, nothing can be put.
//!
//! Start reading at [`Turns::take_part`].

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError,
        atomic::{AtomicU32, Ordering},
    },
    thread::Thread,
    time::{Duration, Instant},
};

use super::{Input, Stopped, worker::Worker};

/// So many at once are few: they lose nothing by waiting for each other, and nobody by waiting for them.
const FEW: u32 = 4;
/// A turn that took longer than this is not one for a thread that others wait for, and counts as one of a crowd.
const QUICK: Duration = Duration::from_millis(5);
/// So many that the next dozen turns, which each take an eighth off what is remembered, are the brain's as well.
const CROWD: u32 = 64;

/// Whose thread a turn is taken on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taker {
    /// The one that has nothing else to do.
    Brain,
    /// One that serves connections, which others wait for.
    Connection,
}

#[derive(Default)]
pub(super) struct Turns {
    inbox: Arc<Inbox>,
    /// None before it starts, and after its end.
    worker: Mutex<Option<Worker>>,
    /// How many inputs the last turns had, the older the less.
    crowd: AtomicU32,
}

/// What waits, and whom to wake for it.
#[derive(Default)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    thread: OnceLock<Thread>,
}

/// How much waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Amount {
    Nothing,
    Little,
    Much,
}

#[derive(Default)]
struct Waiting {
    inputs: VecDeque<Input>,
    is_closed: bool,
}

impl Inbox {
    /// For the thread.
    pub(super) fn send(&self, input: Input) -> Result<(), Stopped> {
        self.put([input])?;
        self.wake();
        Ok(())
    }

    fn put(&self, inputs: impl IntoIterator<Item = Input>) -> Result<(), Stopped> {
        let mut waiting = self.waiting();
        if waiting.is_closed {
            return Err(Stopped);
        }
        waiting.inputs.extend(inputs);
        Ok(())
    }

    /// A thread that is awake looks once more before it sleeps.
    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// All that waits; `empty` is left in its place.
    pub(super) fn swap(&self, empty: &mut VecDeque<Input>) {
        std::mem::swap(&mut self.waiting().inputs, empty);
    }

    fn amount(&self) -> Amount {
        let waiting = self.waiting();
        match waiting.inputs.len() {
            0 => Amount::Nothing,
            few if few <= FEW as usize && waiting.inputs.iter().all(Input::is_light) => Amount::Little,
            _ => Amount::Much,
        }
    }

    /// What waits is dropped, and whoever waits for an answer to it is told so by that.
    fn close(&self) {
        let mut waiting = self.waiting();
        waiting.is_closed = true;
        let dropped = std::mem::take(&mut waiting.inputs);
        drop(waiting);
        drop(dropped);
    }

    /// No code of others runs while it is held.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turns").field("crowd", &self.crowd).finish_non_exhaustive()
    }
}

/// Wakes the thread, unless told that it need not: whoever asked may go before it has taken its turn.
struct Wakes<'a>(Option<&'a Inbox>);

impl Drop for Wakes<'_> {
    fn drop(&mut self) {
        self.0.into_iter().for_each(Inbox::wake);
    }
}

impl Turns {
    pub(super) fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// Runs on the thread, until the worker ends.
    pub(super) fn run(&self, worker: Worker) {
        // Who puts something before this wakes nobody, and need not: the first turn is still to come.
        let _ = self.inbox.thread.set(std::thread::current());
        *self.worker() = Some(worker);
        while let Some(patience) = self.take_own() {
            std::thread::park_timeout(patience);
        }
        self.inbox.close();
        let worker = self.worker().take();
        worker.into_iter().for_each(Worker::end);
    }

    /// How long nothing needs doing; none once nothing more is to be done.
    fn take_own(&self) -> Option<Duration> {
        let mut worker = self.worker();
        let worker = worker.as_mut()?;
        self.take(worker, Taker::Brain);
        let patience = worker.patience();
        (!worker.is_done()).then_some(patience)
    }

    /// Puts something, and sees to it that its turn is taken: here, where that is quick. What others bring at the same
    /// moment shares the turn.
    pub(super) async fn take_part(&self, input: Input) -> Result<(), Stopped> {
        self.inbox.put([input])?;
        let mut wakes = Wakes(Some(&self.inbox));
        if self.is_quiet() {
            tokio::task::yield_now().await;
            wakes.0 = None;
            self.take_borrowed();
        }
        Ok(())
    }

    /// The same of what came together, without waiting for more.
    pub(super) fn take_part_at_once(&self, inputs: Vec<Input>) -> Result<(), Stopped> {
        self.inbox.put(inputs)?;
        self.take_borrowed();
        Ok(())
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.crowd.load(Ordering::Relaxed) <= FEW
    }

    fn take_borrowed(&self) {
        match self.inbox.amount() {
            // Somebody else has taken it.
            Amount::Nothing => return,
            Amount::Little if self.is_quiet() => {}
            Amount::Little | Amount::Much => return self.inbox.wake(),
        }
        let mut held = match self.worker.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(held)) => held.into_inner(),
            // Who holds it may have looked already whether there is more.
            Err(TryLockError::WouldBlock) => return self.inbox.wake(),
        };
        let Some(worker) = held.as_mut() else { return self.inbox.wake() };
        self.take(worker, Taker::Connection);
        let is_early = worker.wants_thread();
        drop(held);
        if is_early || self.inbox.amount() != Amount::Nothing {
            self.inbox.wake();
        }
    }

    fn take(&self, worker: &mut Worker, taker: Taker) {
        let began = Instant::now();
        let turn = catch_unwind(AssertUnwindSafe(|| worker.turn(taker)));
        let Ok(count) = turn else {
            // The panic hook has printed what and where. The only safe state now is the one on disk.
            std::process::abort();
        };
        if count > 0 {
            let crowd = self.crowd.load(Ordering::Relaxed);
            let now = if began.elapsed() > QUICK { CROWD } else { count };
            self.crowd.store(now.max(crowd - crowd.div_ceil(8)), Ordering::Relaxed);
        }
    }

    /// A panic while it is held ends the process.
    fn worker(&self) -> MutexGuard<'_, Option<Worker>> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
