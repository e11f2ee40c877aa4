use std::{future::Future, path::Path, thread};

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
