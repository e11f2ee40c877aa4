//! Streams that a server asked for: it never dials, so the agent dials back for each and serves it.

pub(crate) mod exec;
pub(crate) mod images;
pub(crate) mod logs;

use std::time::Duration;

use proto::v1::{self, agents_client::AgentsClient, open::Request, relay_frame::Frame};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use crate::{agent::Sender, host::Host};

/// Frames that may wait for a slow server before the stream waits for it.
const QUEUE: usize = 64;

/// How long a server may take to close a stream that has come to its end.
const CLOSING: Duration = Duration::from_secs(10);

/// The server's end of a stream.
#[derive(Debug)]
pub(crate) struct Peer {
    outbound: mpsc::Sender<v1::RelayFrame>,
    inbound: Streaming<v1::RelayFrame>,
}

/// The server has closed the stream: nobody listens any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// Why a stream ended early: in words for the user, or because nobody is there to read them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Failed(String),
    Gone,
}

impl From<Gone> for Broken {
    fn from(Gone: Gone) -> Broken {
        Broken::Gone
    }
}

/// Serves one stream beside everything else.
pub(crate) fn serve(host: Host, channel: Channel, open: v1::Open, happened: Sender) {
    tokio::spawn(async move {
        let stream = open.stream;
        if let Err(status) = dial_back(host, channel, open, happened).await {
            tracing::info!(stream, %status, "a stream that the server asked for could not be opened");
        }
    });
}

async fn dial_back(
    host: Host,
    channel: Channel,
    open: v1::Open,
    happened: Sender,
) -> Result<(), tonic::Status> {
    let (outbound, frames) = mpsc::channel(QUEUE);
    let first = Frame::Open(v1::relay_frame::RelayOpen { stream: open.stream });
    // There is room for it: nothing else was sent.
    let _ = outbound.try_send(v1::RelayFrame { frame: Some(first) });
    let answer = AgentsClient::new(channel).relay(ReceiverStream::new(frames)).await?;
    let mut peer = Peer { outbound, inbound: answer.into_inner() };
    let result = match open.request {
        Some(Request::Logs(wanted)) => logs::serve(&host, wanted, &mut peer, &happened).await,
        Some(Request::Exec(wanted)) => exec::serve(&host, wanted, &mut peer).await,
        Some(Request::LoadImage(wanted)) => images::load(&host, wanted, &mut peer, &happened).await,
        Some(Request::ListImages(_)) => images::list(&host, &mut peer).await,
        Some(Request::RemoveImage(wanted)) => images::remove(&host, wanted, &mut peer, &happened).await,
        None => Err(Broken::Failed("this version of the agent does not know such a stream".to_owned())),
    };
    // Should the server be gone already, it needs no end.
    let _ = match result {
        Ok(()) => peer.say(Frame::End(v1::relay_frame::End {})).await,
        Err(Broken::Failed(message)) => peer.say(Frame::Error(v1::relay_frame::RelayError { message })).await,
        Err(Broken::Gone) => Ok(()),
    };
    peer.close().await;
    Ok(())
}

impl Peer {
    pub(crate) async fn say(&self, frame: Frame) -> Result<(), Gone> {
        self.outbound.send(v1::RelayFrame { frame: Some(frame) }).await.map_err(|_| Gone)
    }

    /// Lets the last frames arrive: giving up the call would reset it and lose them. The server closes its side when it
    /// has heard the end.
    async fn close(self) {
        let Peer { outbound, mut inbound } = self;
        drop(outbound);
        let heard = async { while let Ok(Some(_)) = inbound.message().await {} };
        let _ = timeout(CLOSING, heard).await;
    }

    /// To speak from another task or thread.
    pub(crate) fn voice(&self) -> mpsc::Sender<v1::RelayFrame> {
        self.outbound.clone()
    }

    pub(crate) async fn hear(&mut self) -> Result<Frame, Gone> {
        loop {
            match self.inbound.message().await {
                Ok(Some(v1::RelayFrame { frame: Some(frame) })) => return Ok(frame),
                // A kind of frame that this version does not know.
                Ok(Some(v1::RelayFrame { frame: None })) => {}
                Ok(None) | Err(_) => return Err(Gone),
            }
        }
    }
}
