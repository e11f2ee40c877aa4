//! Runs one probe once, against a replica's address or inside a container, and says in words how it failed.

use std::{net::SocketAddrV4, time::Duration};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use model::Millis;
use tokio::net::TcpStream;

use crate::{
    core::{ContainerId, ProbeTarget, Setback},
    exec,
    host::{Host, chain, fault::judge},
};

/// Never later than the timeout, whatever the probe waits for.
pub(crate) async fn probe(
    host: &Host,
    id: &ContainerId,
    target: &ProbeTarget,
    timeout: Millis,
) -> Result<(), Setback> {
    let attempt = async {
        match target {
            ProbeTarget::Tcp { address } => connect(*address).await.map(drop),
            ProbeTarget::Http { address, path } => get(*address, path).await,
            ProbeTarget::Exec { command } => exec::check(host, id, command).await,
        }
    };
    let late = |_| Err(Setback::of_replica(format!("no answer within {timeout}")));
    tokio::time::timeout(Duration::from_millis(timeout.0), attempt).await.unwrap_or_else(late)
}

async fn connect(address: SocketAddrV4) -> Result<TcpStream, Setback> {
    TcpStream::connect(address).await.map_err(|error| {
        let Setback { reason, fault } = judge(&error);
        Setback { reason: format!("port {}: {reason}", address.port()), fault }
    })
}

async fn get(address: SocketAddrV4, path: &str) -> Result<(), Setback> {
    let failed = |error: &dyn std::error::Error| Setback::of_replica(format!("GET {path}: {}", chain(error)));
    let stream = connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .header(header::USER_AGENT, "wharf-probe")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(&error))?;
    let response = async { sender.send_request(request).await.map_err(|error| failed(&error)) };
    tokio::pin!(response);
    // The connection has to be driven for the answer to come; it is dropped, and closed, with the answer's head.
    let response = tokio::select! {
        response = &mut response => response?,
        // Closed, perhaps with the answer just delivered.
        _ = connection => response.await?,
    };
    match response.status().as_u16() {
        200..400 => Ok(()),
        status => Err(Setback::of_replica(format!("GET {path}: status {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// A server for one connection, that answers any request with these bytes.
    async fn server(answer: &'static str) -> SocketAddrV4 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            assert!(request[..length].starts_with(b"GET /healthz HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        address
    }

    #[tokio::test]
    async fn the_status_decides() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Ok(())),
            ("HTTP/1.1 302 Found\r\nlocation: /x\r\n\r\n", Ok(())),
            (
                "HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nno",
                Err(Setback::of_replica("GET /healthz: status 503")),
            ),
        ] {
            let address = server(answer).await;
            assert_eq!(get(address, "/healthz").await, expected, "{answer}");
        }
        let address = server("").await;
        assert!(get(address, "/healthz").await.is_err());
    }

    #[tokio::test]
    async fn a_closed_port_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddrV4 = listener.local_addr().unwrap().to_string().parse().unwrap();
        assert!(connect(address).await.is_ok());
        drop(listener);
        let refused = connect(address).await.unwrap_err();
        assert!(refused.reason.contains("Connection refused"), "{refused}");
        assert_eq!(refused.fault, crate::core::Fault::Replica);
    }
}
