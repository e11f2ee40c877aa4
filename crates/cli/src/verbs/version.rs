//! `wharf version`: of this program, and of the server if there is one.

use anstream::println;
use proto::v1;

use crate::{args::Global, connect::connect, exit::Code};

pub async fn run(global: &Global) -> Code {
    println!("client {}", env!("CARGO_PKG_VERSION"));
    let answer = match connect(&global.socket).await {
        Ok(mut client) => client.get_version(v1::GetVersionRequest {}).await.ok(),
        Err(_) => None,
    };
    match answer {
        Some(answer) => println!("server {}", answer.into_inner().server_version),
        None => println!("server not running at {}", global.socket.display()),
    }
    Code::Done
}
