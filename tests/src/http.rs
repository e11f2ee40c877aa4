//! A request as `curl` makes it: a connection of its own, and the whole answer.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

const TIMEOUT: Duration = Duration::from_secs(5);

/// The body of a 200 answer; anything else is an error in words.
pub fn get(port: u16, path: &str) -> Result<String, String> {
    get_at(Ipv4Addr::LOCALHOST.into(), port, path)
}

/// The same of another host.
pub fn get_at(host: IpAddr, port: u16, path: &str) -> Result<String, String> {
    let address = SocketAddr::from((host, port));
    let mut stream =
        TcpStream::connect_timeout(&address, TIMEOUT).map_err(|error| format!("connect: {error}"))?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(|error| error.to_string())?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| format!("write: {error}"))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| format!("read: {error}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("no answer: {answer:?}"))?;
    match head.starts_with("HTTP/1.1 200") {
        true => Ok(body.to_owned()),
        false => Err(head.lines().next().unwrap_or_default().to_owned()),
    }
}
