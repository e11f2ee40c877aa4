use std::{
    future::Future,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, ThreadId},
};

use futures_util::{FutureExt as _, future::join_all};
use model::{AccessRole, AccessToken, Grant, Scope, SecretHash, Timestamp, TokenId};
use store::TrustChange;
use tempfile::TempDir;
use tokio::{runtime, time::timeout};

use super::*;

const SOON: Duration = Duration::from_secs(20);

/// Whoever asks and goes at once does not make room for another before the thread has taken what was asked.
#[test]
fn a_place_is_free_once_nobody_holds_what_was_asked() {
    let places = Arc::new(Semaphore::new(1));
    let asks = place(&places).unwrap();
    let waits = asks.clone();
    assert!(place(&places).is_none());
    drop(asks);
    assert!(place(&places).is_none());
    drop(waits);
    assert!(place(&places).is_some());
}

fn start_in(folder: &Path) -> Started {
    let open = crate::open(folder.to_owned(), crate::Unlock::default(), 1, None).unwrap();
    start(open.manager, open.log, "this server".to_owned(), |_| None).unwrap()
}

/// On a thread of its own, as a connection's.
fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(SOON, future).await.expect("in time") })
}

/// Something that is written.
fn put(id: u64) -> Request {
    let token = AccessToken {
        id: TokenId(id),
        secret: SecretHash([0; 32]),
        name: format!("token-{id}").parse().unwrap(),
        grant: Grant { role: AccessRole::Viewer, scope: Scope::Everywhere },
        created_at: Timestamp(0),
        expires_at: None,
    };
    Request::Trust(TrustChange::PutAccessToken { token })
}

fn has(view: &View, id: u64) -> bool {
    view.state.access_token(TokenId(id)).is_some()
}

/// Some wait for their answers, some go before they are asked anything, some read: whoever's thread takes the turn,
/// everyone is answered, and what was answered is read afterwards.
#[test]
fn turns_that_are_taken_by_many_threads_lose_nothing() {
    let folder = TempDir::new().unwrap();
    let Started { brain, thread, removed: _removed } = start_in(folder.path());
    let asks = |at: u64, count: u64| {
        let brain = brain.clone();
        async move {
            for id in (0..count).map(|number| at * 1_000 + number) {
                // Polled once, and forgotten.
                drop(brain.request(put(id)).now_or_never());
                brain.request(put(id)).await.unwrap().unwrap();
                assert!(has(&brain.read().await.unwrap(), id), "{id} was acknowledged");
            }
        }
    };
    thread::scope(|scope| {
        // Alone, in pairs, and in a crowd.
        for (at, together) in [(0, 1), (100, 1), (200, 2), (300, 24)] {
            let asks = &asks;
            scope.spawn(move || run(join_all((0..together).map(|one| asks(at + one, 10)))));
        }
    });
    let view = run(brain.read()).unwrap();
    assert_eq!(view.state.access_tokens().count(), 28 * 10);

    brain.stop();
    thread.join().unwrap();
    assert!(run(brain.request(put(1))).is_err_and(|stopped| stopped == Stopped));
    // It is all on the disk, and nobody holds the folder.
    let Started { brain, thread, removed: _removed } = start_in(folder.path());
    let view = run(brain.read()).unwrap();
    assert_eq!(view.state.access_tokens().count(), 28 * 10);
    brain.stop();
    thread.join().unwrap();
}

/// Whoever is not answered before the end hears of the end.
#[test]
fn everyone_who_asks_while_it_ends_is_told_something() {
    let folder = TempDir::new().unwrap();
    let Started { brain, thread, removed: _removed } = start_in(folder.path());
    run(brain.read()).unwrap();
    let answered = thread::scope(|scope| {
        let asks = |at: u64| {
            let brain = brain.clone();
            let ask = async move {
                let mut answered = 0;
                while let Ok(answer) = brain.request(put(at * 1_000_000 + answered as u64)).await {
                    answer.unwrap();
                    answered += 1;
                    if answered == 20 {
                        brain.stop();
                    }
                }
                answered
            };
            scope.spawn(move || run(ask))
        };
        let asking: Vec<_> = (0..3).map(asks).collect();
        asking.into_iter().map(|asks| asks.join().unwrap()).sum::<usize>()
    });
    thread.join().unwrap();
    assert!(answered >= 20);
    let Started { brain, thread, removed: _removed } = start_in(folder.path());
    assert!(run(brain.read()).unwrap().state.access_tokens().count() >= answered);
    brain.stop();
    thread.join().unwrap();
}

/// Somebody whom another thread serves: asks on whenever anybody is answered, so that there is always more to do.
struct AsksOn {
    turns: Arc<Turns>,
    place: Place,
    lends: ThreadId,
    answered_by_lender: AtomicU64,
    answers: Mutex<Vec<oneshot::Receiver<Result<Reply, RequestError>>>>,
}

impl AsksOn {
    /// Something to be written, and what tells of the answer.
    fn asks(self: &Arc<AsksOn>) -> Input {
        let (reply, mut answer) = oneshot::channel();
        let waker = Waker::from(self.clone());
        assert_eq!(answer.poll_unpin(&mut Context::from_waker(&waker)).map(drop), Poll::Pending);
        let mut answers = self.answers.lock().unwrap();
        answers.push(answer);
        Input::Request { request: put(answers.len() as u64), reply, _place: self.place.clone() }
    }
}

impl Wake for AsksOn {
    fn wake(self: Arc<AsksOn>) {
        const ENOUGH: u64 = 100;
        if thread::current().id() == self.lends
            && self.answered_by_lender.fetch_add(1, Ordering::Relaxed) < ENOUGH
        {
            self.turns.take_part_at_once(vec![self.asks()]).unwrap();
        }
    }
}

/// Whoever lends its thread gets it back once its own is answered, however much comes meanwhile.
#[test]
fn a_thread_that_is_lent_is_given_back() {
    let folder = TempDir::new().unwrap();
    let Started { brain, thread, removed: _removed } = start_in(folder.path());
    let deadline = Instant::now() + SOON;
    // What is to be done at the start takes its time.
    while run(brain.read()).is_err() || !brain.turns.is_quiet() {
        assert!(Instant::now() < deadline, "turns are never quick");
    }
    let asks = Arc::new(AsksOn {
        turns: brain.turns.clone(),
        place: place(&brain.requests).unwrap(),
        lends: thread::current().id(),
        answered_by_lender: AtomicU64::new(0),
        answers: Mutex::default(),
    });
    // The first is answered before the second is written: by then there is a third.
    let (reply, mut first) = oneshot::channel();
    let waker = Waker::from(asks.clone());
    assert!(first.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
    let first = Input::Read { reply, _place: asks.place.clone() };
    brain.turns.take_part_at_once(vec![first, asks.asks()]).unwrap();
    assert!(asks.answered_by_lender.load(Ordering::Relaxed) <= 2);
    let answers = std::mem::take(&mut *asks.answers.lock().unwrap());
    for answer in answers {
        run(answer).unwrap().unwrap();
    }
    brain.stop();
    thread.join().unwrap();
}
