//! `wharf exec`: a command in a running container, with the user's terminal if wanted. Its exit code is ours.

use std::{
    io::{ErrorKind, IsTerminal, Write},
    process::ExitCode,
};

use proto::v1::{self, exec_input::Input, exec_output::Output, exec_output::exited::How};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::{
    io::AsyncReadExt,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    args::{self, Global},
    ask,
    connect::Client,
    exit::{Code, Failure},
};

pub async fn run(client: &mut Client, global: &Global, args: args::Exec) -> Result<ExitCode, Failure> {
    if args.tty && !std::io::stdin().is_terminal() {
        let failure = Failure::new("standard input is not a terminal, so --tty has none to give");
        return Err(failure.help("leave --tty (-t) out"));
    }
    let key = args.target.key(&global.namespace);
    let start = v1::ExecStart {
        namespace: key.namespace.to_string(),
        service: key.name.to_string(),
        replica: args.target.selector(),
        container: args.container.clone(),
        command: args.command.clone(),
        tty: args.tty,
        size: if args.tty { size() } else { None },
        stdin: args.interactive,
    };
    let (send, receive) = mpsc::channel(16);
    queue(&send, Input::Start(start)).await;
    let mut output = match client.exec(ReceiverStream::new(receive)).await {
        Ok(output) => output.into_inner(),
        Err(status) => return Err(ask::refused(client, &[key], status).await),
    };
    // Without --interactive nobody would pass a Ctrl-C on: then it ends this program, and with it the command.
    let raw = if args.tty && args.interactive { Some(RawTerminal::enter()?) } else { None };
    if args.interactive {
        tokio::spawn(send_stdin(send.clone()));
    }
    if args.tty {
        tokio::spawn(send_resizes(send.clone()));
    }
    let ended = tokio::select! {
        ended = receive_output(&mut output) => ended,
        // Not Ctrl-C: in a raw terminal that is a key. The terminal is given back before the end.
        code = told_to_end(), if raw.is_some() => Ok(code),
    };
    drop(raw);
    drop(send);
    ended
}

/// Completes at SIGTERM, or when the terminal goes away.
async fn told_to_end() -> ExitCode {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::hangup()));
    let (Ok(mut terminate), Ok(mut hangup)) = signals else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => ExitCode::from(128 + 15),
        _ = hangup.recv() => ExitCode::from(128 + 1),
    }
}

async fn receive_output(output: &mut tonic::Streaming<v1::ExecOutput>) -> Result<ExitCode, Failure> {
    while let Some(message) = output.message().await? {
        match message.output {
            Some(Output::Stdout(bytes)) => write(std::io::stdout().lock(), &bytes)?,
            Some(Output::Stderr(bytes)) => write(std::io::stderr().lock(), &bytes)?,
            Some(Output::Exited(exited)) => {
                return Ok(match exited.how {
                    Some(How::Code(code)) => ExitCode::from(code as u8),
                    // As a shell says it.
                    Some(How::Signal(signal)) => ExitCode::from(128_u8.saturating_add(signal as u8)),
                    None => Code::UsageOrConnection.into(),
                });
            }
            Some(Output::Started(_)) | None => {}
        }
    }
    let help = "the container, its node's agent or the server may have ended: see `wharf get replicas`";
    Err(Failure::new("the connection ended before the command did").help(help))
}

fn write(mut to: impl Write, bytes: &[u8]) -> Result<(), Failure> {
    let written = to.write_all(bytes).and_then(|()| to.flush());
    written.map_err(|error| match error.kind() {
        // Dropping the stream ends the command, as SIGPIPE would.
        ErrorKind::BrokenPipe => Failure::reader_gone(),
        _ => Failure::new("the output cannot be written").caused_by(error),
    })
}

async fn queue(send: &mpsc::Sender<v1::ExecInput>, input: Input) {
    // Fails only when the stream has ended, which its reader sees.
    let _ = send.send(v1::ExecInput { input: Some(input) }).await;
}

async fn send_stdin(send: mpsc::Sender<v1::ExecInput>) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; 16 << 10];
    loop {
        match stdin.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => queue(&send, Input::Stdin(buffer[..count].to_vec().into())).await,
        }
    }
    queue(&send, Input::StdinClosed(v1::exec_input::StdinClosed {})).await;
}

async fn send_resizes(send: mpsc::Sender<v1::ExecInput>) {
    let Ok(mut resized) = signal(SignalKind::window_change()) else { return };
    while resized.recv().await.is_some() {
        if let Some(size) = size() {
            queue(&send, Input::Resize(size)).await;
        }
    }
}

fn size() -> Option<v1::TerminalSize> {
    let size = tcgetwinsize(std::io::stdin()).ok()?;
    Some(v1::TerminalSize { rows: size.ws_row.into(), columns: size.ws_col.into() })
}

/// Hands every key to the command as it is; gives the terminal back when dropped.
struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    fn enter() -> Result<RawTerminal, Failure> {
        let failed =
            |error| Failure::new("the terminal cannot be set up").caused_by(std::io::Error::from(error));
        let before = tcgetattr(std::io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        Ok(RawTerminal { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // There is nobody left to tell.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}
