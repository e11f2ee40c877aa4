//! Which servers a load asks, and how they are reached.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use dial::{DialError, Patience, Way, dial};
use rustls::time_provider::DefaultTimeProvider;
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};
use trust::{
    identity::any_server_name,
    tls::{Believe, Present, client_config},
    token::access::AccessTokenText,
};

#[derive(Debug)]
pub struct Servers {
    ways: Vec<Way>,
    /// What shows who asks, where a socket's owner is not enough.
    bearer: Option<MetadataValue<Ascii>>,
}

impl Servers {
    /// On this host.
    pub fn at_sockets(sockets: Vec<PathBuf>) -> Servers {
        Servers { ways: sockets.into_iter().map(Way::Socket).collect(), bearer: None }
    }

    /// Over TLS, with what `wharf token create` printed.
    pub fn with_token(token: &str, addresses: &[SocketAddr]) -> Servers {
        let token = AccessTokenText::parse(token).expect("an access token");
        let (cluster, pin) = (token.token.cluster, token.token.pin);
        let clock = Arc::new(DefaultTimeProvider);
        let config = client_config(Present::Nothing, Believe::Pin(cluster, pin), clock).expect("TLS");
        let config = Arc::new(config);
        let way = |address: &SocketAddr| Way::Tls {
            address: address.to_string(),
            name: any_server_name(cluster),
            config: config.clone(),
        };
        let bearer = format!("Bearer {}", *token.bearer()).parse().expect("a header");
        Servers { ways: addresses.iter().map(way).collect(), bearer: Some(bearer) }
    }

    pub(super) fn count(&self) -> usize {
        self.ways.len()
    }

    pub(super) async fn connect(&self, server: usize, within: Duration) -> Result<Channel, DialError> {
        dial(self.ways[server].clone(), Patience { connect: within, silence: within }).await
    }

    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(bearer) = &self.bearer {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        request
    }
}
