//! Reading Docker's API over its socket: asked every few milliseconds, the client program would cost what is measured.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::Value;

pub(crate) fn get(socket: &Path, path: &str) -> io::Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    // In version 1.0 the body ends with the connection, whatever its length.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.lines().next().is_some_and(|status| status.contains(" 200 ")) => {
            Ok(serde_json::from_str(body)?)
        }
        _ => Err(io::Error::other(format!("GET {path}: {answer}"))),
    }
}
