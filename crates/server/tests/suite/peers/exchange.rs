//! The way back: who is not known where the other speaks is answered over the connection that it opened.

use std::collections::BTreeMap;

use consensus::{Delivery, PeerMessage, PeerMessageKind};
use model::Level;
use proto::v1::{self, peers_client::PeersClient, peers_server};
use server::peers::{Exchanges, PeerEvent, Peers, Tell};
use tokio::{net::UnixListener, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Events, ONE, Served, TWO, events, incoming, listen, message, next, nobody_known, peers, received_of,
    serve_with, snapshot,
};

/// Member two, which knows no address of member one, or one where it is not any more.
struct Lags {
    _served: Served,
    peers: Peers,
    events: Events,
}

impl Lags {
    fn serve(listener: UnixListener) -> Lags {
        let ((tell, events), exchanges) = (events(), Exchanges::default());
        let served = serve_with(listener, ONE, incoming(TWO, tell.clone(), exchanges.clone()));
        Lags { _served: served, peers: nobody_known(TWO, tell, exchanges), events }
    }

    async fn hears(&mut self, sent: PeerMessage) {
        while next(&mut self.events).await != received_of(sent.clone()) {}
    }
}

fn answer(number: u64) -> PeerMessage {
    PeerMessage { from: TWO, to: ONE, ..message(number) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_the_state_does_not_name_is_answered_where_it_speaks_and_as_long() {
    let (listener, _folder, address) = listen();
    let mut two = Lags::serve(listener);
    two.peers.send(vec![answer(1)]);
    assert_eq!(next(&mut two.events).await, PeerEvent::Unreachable(ONE));
    let (one, mut told) = peers(&address);
    one.send(vec![message(1)]);
    two.hears(message(1)).await;
    for number in 0..1_000 {
        two.peers.send(vec![answer(number)]);
    }
    for number in 0..1_000 {
        assert_eq!(next(&mut told).await, received_of(answer(number)));
    }
    // Snapshots are for those whom the state names.
    two.peers.send(vec![PeerMessage { from: TWO, to: ONE, ..snapshot(10) }]);
    assert_eq!(next(&mut two.events).await, PeerEvent::Snapshot(ONE, Delivery::Failed));
    // Where the state names it, it may have been there once.
    two.peers.know(&BTreeMap::from([(ONE, "/nowhere".to_owned())]));
    two.peers.send(vec![answer(2)]);
    assert_eq!(next(&mut told).await, received_of(answer(2)));
    two.peers.know(&BTreeMap::new());
    drop(one);
    while next(&mut two.events).await != PeerEvent::Ended(ONE) {}
    two.peers.send(vec![answer(3)]);
    while next(&mut two.events).await != PeerEvent::Unreachable(ONE) {}
    assert!(told.try_recv().is_err());
}

/// So that whatever a server did before it crashed ends with its next connection, and nobody can open one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_each_peer_one_exchange_is_open_the_newest() {
    let (listener, _folder, address) = listen();
    let mut two = Lags::serve(listener);
    let (first, mut first_told) = peers(&address);
    first.send(vec![message(1)]);
    two.hears(message(1)).await;
    let (second, mut second_told) = peers(&address);
    second.send(vec![message(2)]);
    two.hears(message(2)).await;
    assert_eq!(next(&mut first_told).await, PeerEvent::Unreachable(TWO));
    two.peers.send(vec![answer(1)]);
    assert_eq!(next(&mut second_told).await, received_of(answer(1)));
    assert!(two.events.try_recv().is_err(), "the end of the first is not that of the peer");
}

/// As builds were before anybody was answered in an exchange: on the wire, nothing comes before its end.
struct Older(Tell);

#[tonic::async_trait]
impl peers_server::Peers for Older {
    type ExchangeStream = tokio_stream::Once<Result<v1::PeerBatch, Status>>;

    async fn exchange(
        &self,
        request: Request<Streaming<v1::PeerBatch>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let mut batches = request.into_inner();
        while let Some(batch) = batches.message().await? {
            for message in batch.messages {
                let (from, to, kind) = (batch.from, batch.to, PeerMessageKind::Ordinary);
                let event = PeerEvent::Received(PeerMessage { from, to, kind, bytes: message.raft }, None);
                (self.0)(vec![event]).map_err(|_| Status::aborted("the test is over"))?;
            }
        }
        Ok(Response::new(tokio_stream::once(Ok(v1::PeerBatch::default()))))
    }

    async fn send_snapshot(
        &self,
        _: Request<Streaming<v1::SnapshotPiece>>,
    ) -> Result<Response<v1::SnapshotProgress>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_snapshot_progress(
        &self,
        _: Request<v1::SnapshotTransfer>,
    ) -> Result<Response<v1::SnapshotProgress>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_builds_are_spoken_to_and_not_answered_where_they_do_not_hear_it() {
    let (listener, _folder, address) = listen();
    let (tell, mut received) = events();
    let _served = serve_with(listener, ONE, Older(tell));
    let (one, mut told) = peers(&address);
    for number in 0..10 {
        one.send(vec![message(number)]);
        assert_eq!(next(&mut received).await, PeerEvent::Received(message(number), None));
    }
    assert!(told.try_recv().is_err(), "the exchange stands");

    let (listener, _folder, address) = listen();
    let mut two = Lags::serve(listener);
    let mut client = PeersClient::new(crate::fixture::channel(&address).await.unwrap());
    let (batches, outbound) = mpsc::channel(1);
    let word = v1::PeerMessage { kind: v1::PeerMessageKind::Raft.into(), raft: message(1).bytes };
    let batch = v1::PeerBatch { from: ONE, to: TWO, messages: vec![word], ..Default::default() };
    batches.send(batch).await.unwrap();
    let mut answers = client.exchange(ReceiverStream::new(outbound)).await.unwrap().into_inner();
    assert_eq!(next(&mut two.events).await, PeerEvent::Received(message(1), Some(Level::FIRST)));
    two.peers.send(vec![answer(1)]);
    assert_eq!(next(&mut two.events).await, PeerEvent::Unreachable(ONE));
    drop(batches);
    assert_eq!(answers.message().await.unwrap(), None);
}
