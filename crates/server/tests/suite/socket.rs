//! Who may listen, and who may connect.

use std::{
    fs::{self, Permissions},
    io::{ErrorKind, Read, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    thread,
};

use crate::fixture::{Home, Server, generations};

const NOBODY: u32 = 65_534;

/// What a process of another user comes to: only the thread becomes that user.
fn as_nobody(socket: &Path) -> std::io::Result<Vec<u8>> {
    let socket = socket.to_owned();
    let connect = move || {
        rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(NOBODY))?;
        let mut stream = UnixStream::connect(&socket)?;
        // What every client of HTTP/2 says first.
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    thread::spawn(connect).join().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_root_may_connect() {
    let server = Server::start().await;
    let socket = &server.home.socket;
    fs::set_permissions(socket.parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
    assert_eq!(fs::metadata(socket).unwrap().permissions().mode() & 0o777, 0o600);
    let refused = as_nobody(socket).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);

    // Whoever opened the socket to all has opened nothing.
    fs::set_permissions(socket, Permissions::from_mode(0o666)).unwrap();
    match as_nobody(socket) {
        Ok(answer) => assert_eq!(answer, b"", "the server speaks to nobody"),
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}")
        }
    }
    assert!(generations(&mut server.control().await).await.is_empty(), "root is served");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_is_listened_on_is_not_taken() {
    let server = Server::start().await;
    let mut other = Home::new();
    other.socket.clone_from(&server.home.socket);
    let refused = server::run(other.config(), std::future::pending()).await.unwrap_err();
    let server::Error::Listen { path, source } = &refused else { panic!("{refused:?}") };
    assert_eq!(path, &server.home.socket);
    assert!(source.to_string().contains("another server listens there"), "{source}");
    assert!(generations(&mut server.control().await).await.is_empty(), "the first goes on");

    // It left nothing behind: once the first is gone, the second can start.
    let _first = server.stop().await;
    let second = Server::start_in(other).await;
    assert!(generations(&mut second.control().await).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_a_crash_left_is_taken_over() {
    let home = Home::new();
    drop(UnixListener::bind(&home.socket).unwrap());
    assert!(home.socket.exists());
    let server = Server::start_in(home).await;
    assert!(generations(&mut server.control().await).await.is_empty());
    let home = server.stop().await;
    assert!(!home.socket.exists(), "it is taken away at the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_socket_is_not_taken_away() {
    let home = Home::new();
    fs::write(&home.socket, "precious").unwrap();
    let refused = server::run(home.config(), std::future::pending()).await.unwrap_err();
    assert!(matches!(refused, server::Error::Listen { .. }), "{refused:?}");
    assert_eq!(fs::read_to_string(&home.socket).unwrap(), "precious");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_socket_in_its_place_is_left_alone() {
    let server = Server::start().await;
    fs::remove_file(&server.home.socket).unwrap();
    let _other = UnixListener::bind(&server.home.socket).unwrap();
    let home = server.stop().await;
    assert!(home.socket.exists(), "it was not this server's");
}
