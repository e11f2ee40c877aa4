//! When a host renews its certificate: two thirds into its life, or when there is another bundle to follow, and again and
//! again until it is done.

use std::{error::Error, future::Future, time::Duration};

use model::Timestamp;
use tokio::sync::watch;

/// Clocks are set, hosts are suspended: nobody sleeps for sixty days.
const LOOK: Duration = Duration::from_secs(600);
const TRY_AGAIN: Duration = Duration::from_secs(1);
const TRY_AGAIN_MAX: Duration = Duration::from_secs(600);

/// Calls `step` whenever it may be time, and whenever `news` comes. `step` renews if it is, and says when it is next; it is
/// told how often it failed in all, so that it can ask another server each time. Never ends.
pub async fn keep_valid<N, F, Done, E>(now: impl Fn() -> Timestamp, mut news: watch::Receiver<N>, mut step: F)
where
    F: FnMut(usize) -> Done,
    Done: Future<Output = Result<Timestamp, E>>,
    E: Error + 'static,
{
    let (mut pause, mut failed) = (TRY_AGAIN, 0);
    loop {
        let wait = match step(failed).await {
            Ok(due) => {
                pause = TRY_AGAIN;
                Duration::from_millis(due.since(now()).0).clamp(TRY_AGAIN, LOOK)
            }
            Err(error) => {
                let error: &(dyn Error + 'static) = &error;
                tracing::warn!(error, "this host's certificate is not renewed");
                failed += 1;
                pause = (pause * 2).min(TRY_AGAIN_MAX);
                pause
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            Ok(()) = news.changed() => {}
        }
    }
}
