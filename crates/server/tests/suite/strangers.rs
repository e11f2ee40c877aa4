//! What whoever has no certificate can do to an open port, with frames that no client of ours would send.

use std::{sync::Arc, time::Duration};

use proto::v1::{AccessRole, control_client::ControlClient};
use rustls::time_provider::DefaultTimeProvider;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{Code, Request, metadata::MetadataMap};
use trust::{
    identity::any_server_name,
    tls::{Believe, Present, client_config},
    token::access::AccessTokenText,
};

use crate::{
    fixture::{everything, in_time},
    founded::{Founded, bearer, with},
};

/// Heads that are too large, and silence before and after the handshake, cost the server a bounded time and nobody else
/// anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_hold_up_nobody() {
    let founded = Founded::start().await;
    let token = founded.token("ci", AccessRole::Viewer, &[], None).await;
    let (users, shown) = (founded.over_tls(&token).await, bearer(&token));
    let large = "x".repeat(1 << 20);
    let mut metadata = MetadataMap::new();
    metadata.insert("authorization", format!("Bearer {large}").parse().unwrap());
    let mut request = Request::new(everything());
    *request.metadata_mut() = metadata;
    let refused = ControlClient::new(users).status(request).await.unwrap_err();
    assert_ne!(refused.code(), Code::Ok, "{refused:?}");
    // More than may shake hands at once, all silent.
    let mut silent = Vec::new();
    for _ in 0..130 {
        silent.push(TcpStream::connect(founded.address).await.unwrap());
    }
    let answer = async {
        let users = founded.over_tls(&token).await;
        ControlClient::new(users).status(with(everything(), &[("authorization", &shown)])).await
    };
    // They give way long before their time is over.
    in_time("a user is let in", answer).await.unwrap();
    let mut byte = [0];
    let closed = in_time("a silent connection is closed", silent[0].read(&mut byte)).await;
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
}

/// RFC 9113, section 6.
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const REFUSED_STREAM: u32 = 7;

/// A client that says what it likes.
struct Frames(TlsStream<TcpStream>);

struct Frame {
    kind: u8,
    payload: Vec<u8>,
}

impl Frames {
    /// Shakes hands as a user does, and begins HTTP/2.
    async fn open(founded: &Founded, token: &AccessTokenText) -> Frames {
        let believe = Believe::Pin(token.token.cluster, token.token.pin);
        let config = client_config(Present::Nothing, believe, Arc::new(DefaultTimeProvider)).unwrap();
        let tcp = TcpStream::connect(founded.address).await.unwrap();
        let name = any_server_name(founded.identity.cluster);
        let mut tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
        tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut frames = Frames(tls);
        frames.say(SETTINGS, 0, 0, &[]).await;
        frames
    }

    async fn say(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.0.write_all(&frame).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// Calls, and never says what.
    async fn begin(&mut self, stream: u32, path: &str) {
        const END_HEADERS: u8 = 4;
        // RFC 7541, appendix A: POST, http, and a path as a literal.
        let mut head = vec![0x83, 0x86, 0x04, path.len() as u8];
        head.extend(path.bytes());
        // An authority, as a literal.
        head.extend([0x01, 1, b'x']);
        self.say(HEADERS, END_HEADERS, stream, &head).await;
    }

    async fn hear(&mut self) -> std::io::Result<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await?;
        Ok(Frame { kind: head[3], payload })
    }

    /// How many streams the server says that it takes at once.
    async fn streams(&mut self) -> u32 {
        loop {
            let frame = self.hear().await.unwrap();
            if frame.kind != SETTINGS {
                continue;
            }
            for setting in frame.payload.chunks(6) {
                if u16::from_be_bytes([setting[0], setting[1]]) == MAX_CONCURRENT_STREAMS {
                    return u32::from_be_bytes(setting[2..].try_into().unwrap());
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_no_certificate_opens_few_streams() {
    let founded = Founded::start().await;
    let token = founded.token("ci", AccessRole::Viewer, &[], None).await;
    let mut stranger = Frames::open(&founded, &token).await;
    let may = in_time("the server's settings", stranger.streams()).await;
    assert!((64..=128).contains(&may), "{may} streams at once");
    // It does not care for what it was told. A join waits for what it has to say.
    for number in 0..=may {
        stranger.begin(1 + 2 * number, "/wharf.v1.Join/Join").await;
    }
    let refused = async {
        loop {
            let frame = stranger.hear().await.unwrap();
            if frame.kind == RST_STREAM {
                return u32::from_be_bytes(frame.payload[..].try_into().unwrap());
            }
        }
    };
    assert_eq!(in_time("a stream too many is refused", refused).await, REFUSED_STREAM);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_strangers_give_way_to_users_and_to_each_other() {
    let founded = Founded::start().await;
    let token = founded.token("ci", AccessRole::Viewer, &[], None).await;
    let shown = bearer(&token);
    let mut users = ControlClient::new(founded.over_tls(&token).await);
    let mut watch = users.watch(with(everything(), &[("authorization", &shown)])).await.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    // More than one address may hold, and all are silent.
    let mut silent = Vec::new();
    for _ in 0..80 {
        silent.push(Frames::open(&founded, &token).await);
    }
    let mut newcomer = ControlClient::new(founded.over_tls(&token).await);
    let asked = newcomer.status(with(everything(), &[("authorization", &shown)]));
    in_time("a newcomer is answered", asked).await.unwrap();
    let oldest = async { while silent[0].hear().await.is_ok() {} };
    in_time("the oldest that is silent is gone", oldest).await;
    // Whoever has shown a token does not give way: what goes on, goes on.
    let again = users.status(with(everything(), &[("authorization", &shown)]));
    in_time("an answer over the connection that there was", again).await.unwrap();
    let goes_on = tokio::time::timeout(Duration::from_millis(300), watch.message()).await;
    assert!(!matches!(goes_on, Ok(Ok(None) | Err(_))), "{goes_on:?}");
}
