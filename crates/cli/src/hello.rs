//! The program of the built-in demo image `wharf.local/hello`: something to deploy, and to break on purpose.
//!
//! It is told how to behave by its environment:
//!
//! | variable | meaning |
//! |---|---|
//! | `PORT` | where it listens; 8080 |
//! | `HELLO_VERSION` | what it says its version is; the tag of the image |
//! | `HELLO_MODE` | `server` (default), `worker` and `consumer` (log a line of work every second, and serve), `metrics` |
//! | `HELLO_START_DELAY` | does not listen before this long, such as `5s` |
//! | `HELLO_FAIL_HEALTH` | with `1`, `/healthz` answers 500 |
//! | `HELLO_HANG` | with `1`, accepts connections and never answers |
//! | `HELLO_EXIT_AFTER` | exits after this long with `HELLO_EXIT_CODE` (0) |
//! | `HELLO_EAT_MEMORY` | takes this much memory after it started, such as `200Mi` |
//!
//! On SIGTERM it answers what it was asked, closes its connections, and exits with 0.

use std::{
    convert::Infallible,
    net::Ipv4Addr,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, body::Incoming, header, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};

/// How long after SIGTERM connections that the kernel has already accepted are still answered.
const DRAIN: Duration = Duration::from_millis(200);

#[derive(Debug)]
struct Hello {
    version: String,
    mode: String,
    host: String,
    replica: String,
    fail_health: bool,
    hang: bool,
    served: AtomicU64,
    stopping: AtomicBool,
}

pub fn run() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("cannot start: {error}")),
    };
    match runtime.block_on(serve()) {
        Ok(code) => code,
        Err(reason) => failed(&reason),
    }
}

fn failed(reason: &str) -> ExitCode {
    eprintln!("hello: {reason}");
    ExitCode::FAILURE
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A setting that is there and cannot be understood stops the program, rather than being passed over.
fn setting<T>(name: &str, read: impl Fn(&str) -> Option<T>, example: &str) -> Result<Option<T>, String> {
    let Some(text) = variable(name) else { return Ok(None) };
    read(&text)
        .map(Some)
        .ok_or_else(|| format!("{name}={text:?} is not understood; write something like {example}"))
}

fn read_duration(text: &str) -> Option<Duration> {
    let (number, unit_ms) = [("ms", 1), ("s", 1_000), ("m", 60_000)]
        .into_iter()
        .find_map(|(unit, ms)| text.strip_suffix(unit).map(|number| (number, ms)))?;
    Some(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(unit_ms)?))
}

fn read_mebibytes(text: &str) -> Option<usize> {
    text.strip_suffix("Mi")?.parse().ok()
}

fn read_switch(text: &str) -> Option<bool> {
    match text {
        "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

async fn serve() -> Result<ExitCode, String> {
    let port = setting("PORT", |text| text.parse::<u16>().ok(), "8080")?.unwrap_or(8080);
    let start_delay = setting("HELLO_START_DELAY", read_duration, "5s")?;
    let exit_after = setting("HELLO_EXIT_AFTER", read_duration, "5s")?;
    let exit_code = setting("HELLO_EXIT_CODE", |text| text.parse::<u8>().ok(), "1")?.unwrap_or(0);
    let eat = setting("HELLO_EAT_MEMORY", read_mebibytes, "200Mi")?;
    let hello = Arc::new(Hello {
        version: variable("HELLO_VERSION").unwrap_or_else(|| "1".to_owned()),
        mode: variable("HELLO_MODE").unwrap_or_else(|| "server".to_owned()),
        host: variable("HOSTNAME").unwrap_or_default(),
        replica: variable("WHARF_REPLICA").unwrap_or_default(),
        fail_health: setting("HELLO_FAIL_HEALTH", read_switch, "1")?.unwrap_or(false),
        hang: setting("HELLO_HANG", read_switch, "1")?.unwrap_or(false),
        served: AtomicU64::new(0),
        stopping: AtomicBool::new(false),
    });
    let log_work = match hello.mode.as_str() {
        "server" | "metrics" => None,
        "worker" => Some("image resized"),
        "consumer" => Some("message handled"),
        other => return Err(format!("HELLO_MODE={other:?} is none of server, worker, consumer, metrics")),
    };
    println!("hello {} ({}) on {} starts", hello.version, hello.mode, hello.host);
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    if let Some(delay) = start_delay {
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
        }
    }
    let listener =
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await.map_err(|e| format!("port {port}: {e}"))?;
    println!("listening on port {port}");
    let mut connections = JoinSet::new();
    let mut work = tokio::time::interval(Duration::from_secs(1));
    let exit = tokio::time::sleep(exit_after.unwrap_or(Duration::MAX));
    tokio::pin!(exit);
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => { connections.spawn(answer(stream, hello.clone())); }
                Err(error) => eprintln!("a connection could not be accepted: {error}"),
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            tick = work.tick() => {
                if let Some(what) = log_work {
                    println!("{what} at {:.0?} after start", tick.elapsed());
                }
                // A mebibyte that is written to is a mebibyte that is resident.
                if let Some(mebibytes) = eat && eaten.len() < mebibytes {
                    eaten.extend((0..mebibytes).map(|_| vec![1_u8; 1 << 20]));
                }
            }
            () = &mut exit => {
                println!("exits with {exit_code}, as it was told");
                return Ok(ExitCode::from(exit_code));
            }
            _ = terminate.recv() => break,
        }
    }
    println!("stops");
    drain(listener, connections, hello).await;
    Ok(ExitCode::SUCCESS)
}

async fn drain(listener: TcpListener, mut connections: JoinSet<()>, hello: Arc<Hello>) {
    hello.stopping.store(true, Ordering::Relaxed);
    let until = tokio::time::Instant::now() + DRAIN;
    while let Ok(accepted) = tokio::time::timeout_at(until, listener.accept()).await {
        if let Ok((stream, _)) = accepted {
            connections.spawn(answer(stream, hello.clone()));
        }
    }
    drop(listener);
    // Connections that say nothing more are given up with the process.
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(Duration::from_secs(5), all).await;
}

async fn answer(stream: tokio::net::TcpStream, hello: Arc<Hello>) {
    let service = service_fn(move |request| {
        let hello = hello.clone();
        async move { Ok::<_, Infallible>(respond(&hello, &request).await) }
    });
    // An error here is a client that went away in the middle.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(hello: &Hello, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if hello.hang {
        std::future::pending::<()>().await;
    }
    let (status, body) = match request.uri().path() {
        "/healthz" if hello.fail_health => {
            (StatusCode::INTERNAL_SERVER_ERROR, "failing, as I was told\n".to_owned())
        }
        "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
        "/metrics" => {
            (StatusCode::OK, format!("hello_requests_total {}\n", hello.served.load(Ordering::Relaxed)))
        }
        "/" => {
            hello.served.fetch_add(1, Ordering::Relaxed);
            let Hello { version, host, replica, .. } = hello;
            (StatusCode::OK, format!("hello from {host}, version {version}, replica {replica}\n"))
        }
        _ => (StatusCode::NOT_FOUND, "not found\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    if hello.stopping.load(Ordering::Relaxed) {
        response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    }
    response
}
