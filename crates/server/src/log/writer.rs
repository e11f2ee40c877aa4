//! The one thread that writes the log.

use std::{
    collections::VecDeque,
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use consensus::Persist;

use super::{Disk, HostDisk, Log, LogError, SavedSnapshot, SnapshotWriter};

/// So much is made durable at once, unless a single write is larger.
const GROUP_BYTES: usize = 4 << 20;
/// How often a full disk is tried again.
const FULL_RETRY: Duration = Duration::from_secs(1);
/// A write that took longer than this was one of a slow disk.
pub(super) const SLOW: Duration = Duration::from_millis(10);

/// A handle to the thread. Dropping it ends the thread after everything that was appended is written.
pub struct LogWriter<D: Disk = HostDisk> {
    log: Arc<Mutex<Log<D>>>,
    /// So was the last write, whoever made it.
    is_slow: Arc<AtomicBool>,
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
    snapshots: SnapshotWriter<D>,
}

/// Told on the writer's thread, which waits: hand it on and return.
#[derive(Debug)]
pub enum LogEvent {
    /// The write with this number, and all before it, are durable.
    Persisted {
        number: u64,
    },
    /// Nothing is acknowledged until `Writable`. What was appended is kept and tried again. Told once per time.
    Full(LogError),
    Writable,
    /// The thread has ended and the process has to.
    Failed(LogError),
}

enum Order {
    Append(Persist),
    Compact(SavedSnapshot),
}

impl<D: Disk> LogWriter<D> {
    pub fn start(log: Log<D>, notify: Box<dyn FnMut(LogEvent) + Send>) -> io::Result<LogWriter<D>> {
        let snapshots = log.snapshots();
        let log = Arc::new(Mutex::new(log));
        let is_slow = Arc::new(AtomicBool::new(false));
        let (orders, received) = channel();
        let mut worker = Worker {
            log: log.clone(),
            is_slow: is_slow.clone(),
            received,
            notify,
            waiting: VecDeque::new(),
            full: false,
        };
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn(move || worker.run())?;
        Ok(LogWriter { log, is_slow, orders: Some(orders), thread: Some(thread), snapshots })
    }

    /// Writes here and now, which spares the caller two wakes of a thread: the log's, and its own. Only for a caller that
    /// was told of everything that it appended before. None where it was left to the thread after all: what needs more
    /// than a write into the active segment, and everything after a write that was slow, until one of the thread's is quick.
    pub fn append_here(&self, group: Vec<Persist>) -> Option<LogEvent> {
        let number = group.last()?.number;
        match self.try_append_here(&group) {
            Some(Ok(())) => Some(LogEvent::Persisted { number }),
            Some(Err(error)) => Some(LogEvent::Failed(error)),
            None => {
                group.into_iter().for_each(|persist| self.append(persist));
                None
            }
        }
    }

    fn try_append_here(&self, group: &[Persist]) -> Option<Result<(), LogError>> {
        if self.is_slow.load(Ordering::Relaxed) {
            return None;
        }
        let mut log = match self.log.try_lock() {
            Ok(log) => log,
            Err(TryLockError::WouldBlock) => return None,
            // The thread is gone, and nobody knows how far it came.
            Err(TryLockError::Poisoned(_)) => return Some(Err(LogError::Poisoned)),
        };
        let is_short = group.iter().all(|persist| persist.snapshot.is_none());
        if !is_short || !log.has_room(group.iter().map(bytes).sum()) {
            return None;
        }
        let written = timed(&self.is_slow, || log.append(group));
        // Nothing of it was written then.
        Some(written).filter(|written| !matches!(written, Err(LogError::Full { .. })))
    }

    /// Never blocks. The answer is [`LogEvent::Persisted`].
    pub fn append(&self, persist: Persist) {
        self.send(Order::Append(persist));
    }

    /// Removes what this snapshot covers, when the thread comes to it.
    pub fn compact(&self, saved: SavedSnapshot) {
        self.send(Order::Compact(saved));
    }

    /// For writing snapshots on another thread.
    pub fn snapshots(&self) -> SnapshotWriter<D> {
        self.snapshots.clone()
    }

    fn send(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // The thread ends early only after it told `Failed`, and then nothing can be written any more.
            let _ = orders.send(order);
        }
    }
}

impl<D: Disk> Drop for LogWriter<D> {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed by the panic hook.
            let _ = thread.join();
        }
    }
}

struct Worker<D: Disk> {
    log: Arc<Mutex<Log<D>>>,
    is_slow: Arc<AtomicBool>,
    received: Receiver<Order>,
    notify: Box<dyn FnMut(LogEvent) + Send>,
    /// Appended and not durable yet, in order. Longer than one group only when the disk is full or slow.
    waiting: VecDeque<Persist>,
    full: bool,
}

impl<D: Disk> Worker<D> {
    fn run(&mut self) {
        loop {
            let open = self.receive();
            let result = self.write();
            match result {
                Ok(()) => {}
                Err(error @ LogError::Full { .. }) => {
                    let first = !self.full;
                    self.full = true;
                    if first {
                        (self.notify)(LogEvent::Full(error));
                    }
                }
                Err(error) => return (self.notify)(LogEvent::Failed(error)),
            }
            // What is not durable now was not acknowledged: at the end it need not be waited for.
            if !open && (self.waiting.is_empty() || self.full) {
                return;
            }
        }
    }

    /// Waits for work, and takes all there is. Says whether more may come.
    fn receive(&mut self) -> bool {
        let first = match (self.waiting.is_empty(), self.full) {
            (true, _) => self.received.recv().map_err(|_| RecvTimeoutError::Disconnected),
            (false, true) => self.received.recv_timeout(FULL_RETRY),
            (false, false) => Err(RecvTimeoutError::Timeout),
        };
        match first {
            Ok(order) => self.take(order),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        while let Ok(order) = self.received.try_recv() {
            self.take(order);
        }
        true
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Append(persist) => self.waiting.push_back(persist),
            Order::Compact(saved) => {
                // Not worth waiting for its turn: it removes only what the snapshot covers. A failure poisons the log,
                // and the next write says so.
                if let Err(error) = self.log.lock().unwrap_or_else(PoisonError::into_inner).compact(&saved) {
                    tracing::error!(%error, "old segments of the log cannot be removed");
                }
            }
        }
    }

    fn write(&mut self) -> Result<(), LogError> {
        let count = self.next_group();
        let group = &self.waiting.make_contiguous()[..count];
        let Some(number) = group.last().map(|persist| persist.number) else { return Ok(()) };
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        timed(&self.is_slow, || log.append(group))?;
        drop(log);
        self.waiting.drain(..count);
        if std::mem::take(&mut self.full) {
            (self.notify)(LogEvent::Writable);
        }
        (self.notify)(LogEvent::Persisted { number });
        Ok(())
    }

    /// How many of the waiting writes go together.
    fn next_group(&self) -> usize {
        let mut total = 0;
        let fits = |persist: &&Persist| {
            let first = total == 0;
            total += bytes(persist);
            first || total <= GROUP_BYTES
        };
        self.waiting.iter().take_while(fits).count()
    }
}

/// Notes how the disk is.
fn timed<T>(is_slow: &AtomicBool, write: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let written = write();
    is_slow.store(began.elapsed() > SLOW, Ordering::Relaxed);
    written
}

/// About what it takes in the log.
fn bytes(persist: &Persist) -> usize {
    32 + persist.entries.iter().map(|entry| entry.payload.len() + 32).sum::<usize>()
}

impl<D: Disk> fmt::Debug for LogWriter<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogWriter").finish_non_exhaustive()
    }
}
