//! Two servers' ends of the transport, over loopback connections that break.

mod exchange;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use consensus::{Delivery, MemberId, PeerMessage, PeerMessageKind};
use dial::Way;
use model::{ClusterId, HostRole, Level, NodeId};
use proto::v1::{
    self,
    peers_client::PeersClient,
    peers_server::{self, PeersServer},
};
use server::{
    brain::Stopped,
    caller::{Arrival, Caller},
    peers::{Exchanges, FindWay, Incoming, PeerEvent, Peers, Tell},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    runtime::{Builder, Handle, Runtime},
    sync::mpsc,
    time::timeout,
};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{service::InterceptorLayer, transport::Server};
use trust::identity::Identity;

const ONE: MemberId = 1;
const TWO: MemberId = 2;
const SOON: Duration = Duration::from_secs(20);

type Events = mpsc::UnboundedReceiver<PeerEvent>;

fn events() -> (Tell, Events) {
    let (sender, events) = mpsc::unbounded_channel();
    let tell: Tell = Arc::new(move |events| {
        events.into_iter().try_for_each(|event| sender.send(event)).map_err(|_| Stopped)
    });
    (tell, events)
}

/// A server of its own runtime: dropping it cuts its connections, as a crash does.
struct Served(Option<Runtime>);

impl Drop for Served {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

/// A server whose connections prove that `peer` calls.
fn serve(listener: UnixListener, own: MemberId, peer: MemberId) -> (Served, Events) {
    let (tell, events) = events();
    (serve_with(listener, peer, incoming(own, tell, Exchanges::default())), events)
}

fn incoming(own: MemberId, tell: Tell, exchanges: Exchanges) -> Incoming {
    Incoming::new(own, tell, Arc::new(|_| Ok(())), exchanges)
}

fn serve_with(listener: UnixListener, peer: MemberId, service: impl peers_server::Peers) -> Served {
    let incoming = PeersServer::new(service);
    let proves = InterceptorLayer::new(move |mut request: tonic::Request<()>| {
        let (cluster, role, node) = (ClusterId(1), HostRole::Server, NodeId(peer));
        request.extensions_mut().insert(Arrival::from(Caller::Node(Identity { cluster, role, node })));
        Ok(request)
    });
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let listener = listener.into_std().expect("a listener");
    runtime.spawn(async move {
        let listener = UnixListener::from_std(listener).expect("a listener");
        let server = Server::builder().layer(proves).add_service(incoming);
        server.serve_with_incoming(UnixListenerStream::new(listener)).await.expect("the server serves");
    });
    Served(Some(runtime))
}

/// Member one's links, with member two at this address.
fn peers(address: &Path) -> (Peers, Events) {
    let (tell, events) = events();
    let mut peers = nobody_known(ONE, tell, Exchanges::default());
    peers.know(&BTreeMap::from([(ONE, "nowhere:1".to_owned()), (TWO, address.display().to_string())]));
    (peers, events)
}

fn nobody_known(own: MemberId, tell: Tell, exchanges: Exchanges) -> Peers {
    let find_way: FindWay = Arc::new(|_, address| Way::Socket(address.into()));
    Peers::new(own, BTreeMap::new(), Handle::current(), find_way, tell, exchanges)
}

/// With what this build knows.
fn received_of(message: PeerMessage) -> PeerEvent {
    PeerEvent::Received(message, Some(Level::NEWEST))
}

fn message(number: u64) -> PeerMessage {
    let bytes = Bytes::copy_from_slice(&number.to_le_bytes());
    PeerMessage { from: ONE, to: TWO, kind: PeerMessageKind::Ordinary, bytes }
}

fn snapshot(length: usize) -> PeerMessage {
    let bytes: Bytes = (0..length).map(|at| (at * 31 + at / 256) as u8).collect();
    PeerMessage { from: ONE, to: TWO, kind: PeerMessageKind::Snapshot, bytes }
}

async fn next(events: &mut Events) -> PeerEvent {
    timeout(SOON, events.recv()).await.expect("something happens").expect("the other end lives")
}

/// The next event that is not about the peer being away.
async fn next_said(events: &mut Events) -> PeerEvent {
    loop {
        match next(events).await {
            PeerEvent::Unreachable(_) => {}
            said => return said,
        }
    }
}

/// Listens on a socket of its own; the folder that it is in goes when the test does.
fn listen() -> (UnixListener, TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    (UnixListener::bind(&path).expect("a socket"), folder, path)
}

/// Sends the message again and again until one arrives, as consensus does.
async fn until_received(peers: &Peers, sent: PeerMessage, received: &mut Events) {
    let arrived = async {
        loop {
            peers.send(vec![sent.clone()]);
            if let Ok(Some(event)) = timeout(Duration::from_millis(50), received.recv()).await {
                return event;
            }
        }
    };
    assert_eq!(timeout(SOON, arrived).await.expect("it arrives"), received_of(sent));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_arrive_in_their_order() {
    let (listener, _folder, address) = listen();
    let (_served, mut received) = serve(listener, TWO, ONE);
    let (peers, _told) = peers(&address);
    for number in 0..1_000 {
        peers.send(vec![message(number)]);
    }
    for number in 0..1_000 {
        assert_eq!(next(&mut received).await, received_of(message(number)));
    }
    drop(peers);
    assert_eq!(next(&mut received).await, PeerEvent::Ended(ONE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_was_away_is_reached_when_it_is_back() {
    let (listener, _folder, address) = listen();
    drop(listener);
    let (peers, mut told) = peers(&address);
    peers.send(vec![message(1)]);
    assert_eq!(next(&mut told).await, PeerEvent::Unreachable(TWO));
    for _ in 0..2 {
        std::fs::remove_file(&address).expect("the socket that was left");
        let listener = UnixListener::bind(&address).expect("a socket again");
        let (served, mut received) = serve(listener, TWO, ONE);
        until_received(&peers, message(2), &mut received).await;
        // Of the attempts before the one that got through; what comes from here on is of the end.
        while told.try_recv().is_ok() {}
        drop(served);
        assert_eq!(next(&mut told).await, PeerEvent::Unreachable(TWO), "the end of the connection is told");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_taken_that_the_connection_does_not_prove_or_that_is_for_another() {
    for (own, proven) in [(TWO, 3), (4, ONE)] {
        let (listener, _folder, address) = listen();
        let (_served, mut received) = serve(listener, own, proven);
        let (peers, mut told) = peers(&address);
        peers.send(vec![message(1), snapshot(10)]);
        loop {
            match next(&mut told).await {
                PeerEvent::Unreachable(TWO) => {}
                PeerEvent::Snapshot(TWO, Delivery::Failed) => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(received.try_recv().is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_known_or_does_not_keep_up_costs_nobody_time() {
    let (listener, _folder, address) = listen();
    let (peers, mut told) = peers(&address);
    peers.send(vec![PeerMessage { to: 9, ..message(1) }]);
    assert_eq!(next(&mut told).await, PeerEvent::Unreachable(9));
    // It accepts connections and reads nothing.
    for number in 0..100_000 {
        peers.send(vec![message(number)]);
    }
    assert_eq!(next(&mut told).await, PeerEvent::Unreachable(TWO));
    drop(listener);
}

/// Cuts each connection after so many bytes, and counts what came through.
fn cutting_proxy(target: PathBuf, after: usize, carried: Arc<AtomicU64>) -> (TempDir, PathBuf) {
    let (listener, folder, address) = listen();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = UnixStream::connect(&target).await else { return };
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let carried = carried.clone();
            let back = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
            tokio::spawn(async move {
                let (mut left, mut buffer) = (after, vec![0; 16 << 10]);
                while let Ok(read @ 1..) = from_client.read(&mut buffer).await
                    && read <= left
                    && to_server.write_all(&buffer[..read]).await.is_ok()
                {
                    left -= read;
                    carried.fetch_add(read as u64, Ordering::Relaxed);
                }
                back.abort();
            });
        }
    });
    (folder, address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_goes_on_where_it_was_cut_off() {
    const LENGTH: usize = 20 << 20;
    let (listener, _folder, address) = listen();
    let (_served, mut received) = serve(listener, TWO, ONE);
    let carried = Arc::new(AtomicU64::new(0));
    let (_proxy_folder, proxy) = cutting_proxy(address, 3 << 20, carried.clone());
    let (peers, mut told) = peers(&proxy);
    peers.send(vec![snapshot(LENGTH)]);
    assert_eq!(next_said(&mut told).await, PeerEvent::Snapshot(TWO, Delivery::Arrived));
    assert!(
        next_said(&mut received).await == PeerEvent::Received(snapshot(LENGTH), None),
        "another snapshot came"
    );
    // Each of the seven connections loses at most what was under way.
    let carried = carried.load(Ordering::Relaxed);
    assert!(carried < 2 * LENGTH as u64, "{carried} bytes for a snapshot of {LENGTH}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_never_gets_through_is_given_up() {
    let (listener, _folder, address) = listen();
    let (_served, _received) = serve(listener, TWO, ONE);
    let (_proxy_folder, proxy) = cutting_proxy(address, 10_000, Arc::default());
    let (peers, mut told) = peers(&proxy);
    peers.send(vec![snapshot(1 << 20)]);
    assert_eq!(next_said(&mut told).await, PeerEvent::Snapshot(TWO, Delivery::Failed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_or_changed_snapshot_is_what_it_is() {
    let (listener, _folder, address) = listen();
    let (_served, mut received) = serve(listener, TWO, ONE);
    let (peers, mut told) = peers(&address);
    for length in [1, 256 << 10, (256 << 10) + 1] {
        peers.send(vec![snapshot(length)]);
        assert_eq!(next_said(&mut told).await, PeerEvent::Snapshot(TWO, Delivery::Arrived));
        assert_eq!(next_said(&mut received).await, PeerEvent::Received(snapshot(length), None));
    }
    let mut client = PeersClient::new(crate::fixture::channel(&address).await.unwrap());
    let transfer = v1::SnapshotTransfer { from: ONE, to: TWO, digest: vec![7; 32].into(), length: 3 };
    let piece = |offset, data: &'static [u8]| v1::SnapshotPiece {
        transfer: Some(transfer.clone()),
        offset,
        data: Bytes::from_static(data),
    };
    let refused = |pieces: Vec<v1::SnapshotPiece>| {
        let mut client = client.clone();
        async move { client.send_snapshot(tokio_stream::iter(pieces)).await.unwrap_err().message().to_owned() }
    };
    let check = |words: String, expected: &str| assert!(words.contains(expected), "{words}");
    check(refused(vec![piece(0, b"abc")]).await, "not the one that was announced");
    check(refused(vec![piece(1, b"a")]).await, "do not follow");
    check(refused(vec![piece(0, b"abcd")]).await, "do not follow");
    let progress = client.get_snapshot_progress(transfer.clone()).await.unwrap().into_inner();
    assert_eq!(progress.arrived, 0);
}
