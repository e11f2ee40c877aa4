//! A user's command in a container: input and output are pumped until it has ended and all that it wrote is sent.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use model::{Name, ReplicaId};
use proto::v1::{
    self,
    exec_input::Input,
    exec_output::{Exited, Output, Started, exited::How},
    relay_frame::Frame,
};
use runtime::{Exec, ExecStatus, ExecStdio, TerminalSize};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};

use super::{Broken, Peer};
use crate::{exec, host::Host, readiness};

const CHUNK: usize = 32 << 10;

/// After the command's end, for output that a process which it left behind still holds open.
const LINGER: Duration = Duration::from_millis(200);

/// Our ends of the command's input and output.
struct Pipes {
    stdin: Option<AsyncFd<OwnedFd>>,
    /// And whether it is the error output.
    outputs: Vec<(AsyncFd<OwnedFd>, bool)>,
}

pub(super) async fn serve(host: &Host, wanted: v1::open::NodeExec, peer: &mut Peer) -> Result<(), Broken> {
    let replica = ReplicaId(wanted.replica);
    let start =
        wanted.start.ok_or_else(|| Broken::Failed("the request does not say what to run".to_owned()))?;
    let container = container_name(&start)?;
    let id = host.running(replica, &container).map_err(Broken::Failed)?;
    let slot = host.sandbox(replica).map_or(0, |sandbox| sandbox.slot.get());
    let (mut command, pipes) = begin(host, &id, &start).await.map_err(Broken::Failed)?;
    let started = Started { replica: replica.0, slot, container: container.to_string() };
    peer.say(output(Output::Started(started))).await?;
    let mut outputs = JoinSet::new();
    for (pipe, is_error) in pipes.outputs {
        outputs.spawn(pump_out(pipe, is_error, peer.voice()));
    }
    let (input, waiting) = mpsc::channel(16);
    let feeding = tokio::spawn(pump_in(pipes.stdin, waiting));
    let ended = converse(&mut command, peer, Some(input)).await;
    feeding.abort();
    let status = ended?;
    let drained = timeout(LINGER, async { while outputs.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        outputs.abort_all();
    }
    peer.say(output(Output::Exited(Exited { how: Some(how(status)) }))).await?;
    Ok(())
}

fn container_name(start: &v1::ExecStart) -> Result<Name, Broken> {
    let name = start.container.as_deref().unwrap_or("main");
    name.parse().map_err(|error| Broken::Failed(format!("container {name:?}: {error}")))
}

/// Feeds the command until it ends. The server's closing the stream ends it too: dropping the command kills it.
async fn converse(
    command: &mut Exec,
    peer: &mut Peer,
    mut input: Option<mpsc::Sender<bytes::Bytes>>,
) -> Result<ExecStatus, Broken> {
    let resizes = command.tty.as_ref().and_then(|tty| tty.try_clone().ok());
    let ended = exec::ended(command);
    tokio::pin!(ended);
    loop {
        let frame = tokio::select! {
            status = &mut ended => return status.map_err(Broken::Failed),
            frame = peer.hear() => frame?,
        };
        let Frame::ExecInput(v1::ExecInput { input: Some(said) }) = frame else { continue };
        match said {
            Input::Stdin(bytes) => {
                let Some(open) = &input else { continue };
                // A command that reads no more must not hold up its own end.
                tokio::select! {
                    status = &mut ended => return status.map_err(Broken::Failed),
                    sent = open.send(bytes) => if sent.is_err() { input = None },
                }
            }
            Input::StdinClosed(_) => input = None,
            Input::Resize(size) => {
                if let Some(tty) = &resizes {
                    resize(tty, size);
                }
            }
            Input::Start(_) => return Err(Broken::Failed("a command is started once".to_owned())),
        }
    }
}

async fn begin(
    host: &Host,
    id: &crate::core::ContainerId,
    start: &v1::ExecStart,
) -> Result<(Exec, Pipes), String> {
    let words = |error: io::Error| format!("cannot make pipes for the command: {error}");
    if start.tty {
        let size = terminal_size(start.size.as_ref());
        let command = exec::start(host, id, &start.command, ExecStdio::Tty(size), Some("xterm"))
            .await
            .map_err(|setback| setback.reason)?;
        let tty = command.tty.as_ref().ok_or("the command got no terminal")?;
        let stdin = pollable(tty.try_clone().map_err(words)?, Interest::WRITABLE).map_err(words)?;
        let stdout = pollable(tty.try_clone().map_err(words)?, Interest::READABLE).map_err(words)?;
        return Ok((command, Pipes { stdin: Some(stdin), outputs: vec![(stdout, false)] }));
    }
    let (stdout, theirs_out) = pipe().map_err(words)?;
    let (stderr, theirs_err) = pipe().map_err(words)?;
    let (theirs_in, stdin) = if start.stdin {
        let (read, write) = pipe().map_err(words)?;
        (read, Some(pollable(write, Interest::WRITABLE).map_err(words)?))
    } else {
        (std::fs::File::open("/dev/null").map_err(words)?.into(), None)
    };
    let stdio = ExecStdio::Fds { stdin: theirs_in, stdout: theirs_out, stderr: theirs_err };
    let command =
        exec::start(host, id, &start.command, stdio, None).await.map_err(|setback| setback.reason)?;
    let stdout = pollable(stdout, Interest::READABLE).map_err(words)?;
    let stderr = pollable(stderr, Interest::READABLE).map_err(words)?;
    Ok((command, Pipes { stdin, outputs: vec![(stdout, false), (stderr, true)] }))
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

fn pollable(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)?;
    readiness::owned(fd, interest)
}

async fn pump_out(pipe: AsyncFd<OwnedFd>, is_error: bool, voice: mpsc::Sender<v1::RelayFrame>) {
    let mut buffer = vec![0; CHUNK];
    // A terminal whose other end is closed fails (EIO) instead of ending.
    while let Ok(length @ 1..) =
        pipe.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut buffer[..])?)).await
    {
        let bytes = bytes::Bytes::copy_from_slice(&buffer[..length]);
        let frame = output(if is_error { Output::Stderr(bytes) } else { Output::Stdout(bytes) });
        if voice.send(v1::RelayFrame { frame: Some(frame) }).await.is_err() {
            return;
        }
    }
}

async fn pump_in(pipe: Option<AsyncFd<OwnedFd>>, mut waiting: mpsc::Receiver<bytes::Bytes>) {
    let Some(pipe) = pipe else { return };
    while let Some(bytes) = waiting.recv().await {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match pipe.async_io(Interest::WRITABLE, |fd| Ok(rustix::io::write(fd, rest)?)).await {
                Ok(written) => rest = &rest[written..],
                Err(_) => return, // It reads no more.
            }
        }
    }
    // Dropping the pipe is the end of the command's input.
}

fn resize(tty: &OwnedFd, size: v1::TerminalSize) {
    let size = terminal_size(Some(&size));
    let size =
        rustix::termios::Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // A terminal that is gone needs no size.
    let _ = rustix::termios::tcsetwinsize(tty.as_fd(), size);
}

fn terminal_size(size: Option<&v1::TerminalSize>) -> TerminalSize {
    let clamp = |value: u32, otherwise| match u16::try_from(value) {
        Ok(0) | Err(_) => otherwise,
        Ok(value) => value,
    };
    let (rows, columns) = size.map_or((0, 0), |size| (size.rows, size.columns));
    TerminalSize { rows: clamp(rows, 24), columns: clamp(columns, 80) }
}

fn output(output: Output) -> Frame {
    Frame::ExecOutput(v1::ExecOutput { output: Some(output) })
}

fn how(status: ExecStatus) -> How {
    match status {
        ExecStatus::Code(code) => How::Code(code as u32 & 0xff),
        ExecStatus::Signal(signal) => How::Signal(signal.unsigned_abs()),
    }
}
