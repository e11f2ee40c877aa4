//! How a test speaks with its virtual machine: scripts go in, exit codes and output come out.
//!
//! A virtio-serial port of the machine is a Unix socket here. One line each way: a number and a script; the number, the
//! exit code and the output; texts in base64. `init.sh` is the other end. One script at a time.

use std::{
    io::{self, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    time::{Duration, Instant},
};

use super::base64;

#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    /// What came after the last whole line.
    rest: Vec<u8>,
    number: u64,
}

/// How a script in a virtual machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    pub code: i32,
    /// Standard output and standard error, as they came.
    pub output: String,
}

/// Where QEMU will connect to.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Channel {
    /// `broken` tells why nobody will come any more.
    pub fn accept(
        listener: &UnixListener,
        until: Instant,
        mut broken: impl FnMut() -> Option<String>,
    ) -> Result<Channel, String> {
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).map_err(|error| error.to_string())?;
                    return Ok(Channel { stream, rest: Vec::new(), number: 0 });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.to_string()),
            }
            if let Some(reason) = broken() {
                return Err(reason);
            }
            if Instant::now() > until {
                return Err("QEMU did not connect in time".to_owned());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The line that the machine says when it is up.
    pub fn wait_ready(&mut self, until: Instant) -> Result<(), String> {
        let line = self.line(until)?;
        if line == "ready" { Ok(()) } else { Err(format!("instead of \"ready\" the machine said {line:?}")) }
    }

    pub fn run(&mut self, script: &str, until: Instant) -> Result<Ran, String> {
        self.number += 1;
        let line = format!("{} {}\n", self.number, base64::encode(script.as_bytes()));
        self.stream
            .write_all(line.as_bytes())
            .map_err(|error| format!("the script cannot be sent: {error}"))?;
        let answer = self.line(until)?;
        let not_understood = || format!("the machine answered {answer:?}");
        let mut words = answer.split(' ');
        let number = words.next().and_then(|word| word.parse::<u64>().ok());
        let code = words.next().and_then(|word| word.parse().ok()).ok_or_else(not_understood)?;
        let output = words.next().and_then(base64::decode).ok_or_else(not_understood)?;
        if number != Some(self.number) {
            return Err(not_understood());
        }
        Ok(Ran { code, output: String::from_utf8_lossy(&output).into_owned() })
    }

    fn line(&mut self, until: Instant) -> Result<String, String> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("no answer in time".to_owned());
            }
            self.stream.set_read_timeout(Some(left)).map_err(|error| error.to_string())?;
            let mut buffer = [0; 65_536];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err("the machine is gone".to_owned()),
                Ok(size) => self.rest.extend(&buffer[..size]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}
