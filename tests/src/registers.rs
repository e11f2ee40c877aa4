//! A load of writes and reads of registers that the cluster keeps, and whether all that was told of them can be true.
//!
//! A register is a label of a node. Every attempt writes a value of its own, so that one whose outcome nobody knows is told
//! from the next; a client whose attempt failed asks another server, unless it was told who leads now. Reads and writes go
//! to all servers alike.

mod client;
mod servers;
mod story;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

pub use self::servers::Servers;
use self::{
    client::{Client, Failed},
    story::Story,
};
use crate::wait_for;

/// Before a client asks again.
const RETRY: Duration = Duration::from_millis(20);
/// How long a client goes on asking.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much is asked for. Every register has a reader.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    registers: usize,
    /// Of each register.
    writers: usize,
    /// Between two requests of one client.
    pause: Duration,
    /// A server that does not answer for so long is asked nothing more for now.
    attempt: Duration,
}

impl Pace {
    /// For servers on this host.
    pub const LIVELY: Pace =
        Pace { registers: 4, writers: 2, pause: Duration::from_millis(20), attempt: Duration::from_secs(1) };
    /// For servers in virtual machines, where everything takes ten times as long.
    pub const LEISURELY: Pace =
        Pace { registers: 2, writers: 2, pause: Duration::from_millis(200), attempt: Duration::from_secs(5) };
}

/// Clients at work.
#[derive(Debug)]
pub struct Registers {
    shared: Arc<Shared>,
    clients: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    story: Mutex<Story>,
}

/// What became of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    pub writes: usize,
    pub reads: usize,
    /// The longest that a client waited for one request, with all its attempts.
    pub longest: Duration,
}

impl Registers {
    /// Clients of these servers; the registers are labels of this node.
    pub fn start(servers: Servers, pace: Pace, node: &str) -> Registers {
        let shared = Arc::new(Shared::default());
        let (own, servers, node) = (shared.clone(), Arc::new(servers), node.to_owned());
        let clients = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let mut tasks = tokio::task::JoinSet::new();
                let clients = pace.writers + 1;
                for number in 0..pace.registers * clients {
                    let register = number / clients;
                    let client = Client::new(servers.clone(), &node, pace.attempt, register, number);
                    tasks.spawn(work(own.clone(), pace, client, number % clients < pace.writers));
                }
                while let Some(ended) = tasks.join_next().await {
                    ended.expect("a client");
                }
            });
        });
        Registers { shared, clients: Some(clients) }
    }

    /// How long it took from `since` until a write was acknowledged that began later.
    pub fn writes_again(&self, since: Instant) -> Duration {
        wait_for("a write to be acknowledged", PATIENCE, || {
            self.shared.story().written_after(since).ok_or("none")
        })
    }

    /// Ends the load, and fails unless all of it can be true.
    pub fn stop(mut self) -> Summary {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.clients.take().expect("it runs").join().expect("the clients");
        let story = self.shared.story();
        story.check();
        story.summary()
    }
}

impl Shared {
    fn story(&self) -> MutexGuard<'_, Story> {
        self.story.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

async fn work(shared: Arc<Shared>, pace: Pace, mut client: Client, writes: bool) {
    while !shared.stop.load(Ordering::Relaxed) {
        request(&shared, &mut client, writes).await;
        tokio::time::sleep(pace.pause).await;
    }
    // The last word on each register: what was acknowledged is there.
    request(&shared, &mut client, false).await;
}

/// As many attempts as it takes.
async fn request(shared: &Shared, client: &mut Client, writes: bool) {
    client.take_turns();
    let began = Instant::now();
    while !attempt(shared, client, writes).await {
        assert!(began.elapsed() < PATIENCE, "no server answers a client");
        tokio::time::sleep(RETRY).await;
    }
    shared.story().requested(began.elapsed());
}

/// Whether it was answered.
async fn attempt(shared: &Shared, client: &mut Client, writes: bool) -> bool {
    let register = client.register();
    if !writes {
        let began = shared.story().moment();
        let read = client.read().await;
        if let Ok(value) = read {
            shared.story().read(register, began, value);
        }
        return read.is_ok();
    }
    let (value, since) = (shared.story().begins_to_write(register), Instant::now());
    let outcome = client.write(value).await;
    match outcome {
        Ok(()) => shared.story().written(register, value, since),
        Err(Failed::NothingDone) => shared.story().never_written(register, value),
        Err(Failed::OutcomeUnknown) => {}
    }
    outcome.is_ok()
}
