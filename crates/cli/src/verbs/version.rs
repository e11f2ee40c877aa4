//! `wharf version`: of this program, and of the server if there is one.

use proto::v1;

use crate::{
    args::Global,
    connect::connect,
    exit::{Code, Failure},
    output::print,
};

pub async fn run(global: &Global) -> Result<Code, Failure> {
    let answer = match connect(&global.socket).await {
        Ok(mut client) => client.get_version(v1::GetVersionRequest {}).await.ok(),
        Err(_) => None,
    };
    let server = match answer {
        Some(answer) => answer.into_inner().server_version,
        None => format!("none answers at {}", global.socket.display()),
    };
    print(&format!("client {}\nserver {server}\n", env!("CARGO_PKG_VERSION")))?;
    Ok(Code::Done)
}
