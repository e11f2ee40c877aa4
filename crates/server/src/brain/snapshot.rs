//! A snapshot on its way to the disk, beside everything else: the state is a clone that nobody changes.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use consensus::{Snapshot, SnapshotMeta};
use manager::Codec as _;
use store::State;

use super::{Input, turns::Inbox, worker::give_up};
use crate::{
    chain::chain,
    codec::WireCodec,
    log::{LogError, SavedSnapshot, SnapshotWriter},
};

/// How often one is tried again that the disk has no room for.
const RETRY: Duration = Duration::from_secs(5);

pub(super) struct SnapshotThread {
    /// Dropping it tells the thread that nobody waits for it.
    waits: Sender<()>,
    thread: JoinHandle<()>,
}

impl SnapshotThread {
    /// Once the snapshot is durable, the inbox is told.
    pub(super) fn start(
        meta: SnapshotMeta,
        state: State,
        writer: SnapshotWriter,
        inbox: Arc<Inbox>,
    ) -> io::Result<SnapshotThread> {
        let (waits, waited_for) = channel();
        let thread = Builder::new().name("snapshot".to_owned()).spawn(move || {
            let snapshot = Snapshot { meta, data: WireCodec.encode_snapshot(&state).into() };
            if let Some(saved) = save(&writer, &snapshot, &waited_for) {
                // Once the worker has ended, nobody waits for it.
                let _ = inbox.send(Input::SnapshotWritten(snapshot, saved));
            }
        })?;
        Ok(SnapshotThread { waits, thread })
    }

    /// Lets it finish what it writes; one that waits for room gives up.
    pub(super) fn end(self) {
        drop(self.waits);
        // Its panic has been printed by the panic hook.
        let _ = self.thread.join();
    }
}

/// Tries until there is room, since a log that is not compacted only grows, or until nobody waits for it.
fn save(writer: &SnapshotWriter, snapshot: &Snapshot, waited_for: &Receiver<()>) -> Option<SavedSnapshot> {
    loop {
        match writer.write(snapshot) {
            Ok(saved) => return Some(saved),
            Err(error @ LogError::Full { .. }) => {
                tracing::warn!(error = chain(&error), "a snapshot waits for room on the disk");
            }
            Err(error) => give_up(&chain(&error)),
        }
        if waited_for.recv_timeout(RETRY) == Err(RecvTimeoutError::Disconnected) {
            return None;
        }
    }
}
