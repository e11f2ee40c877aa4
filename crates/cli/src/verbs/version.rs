//! `wharf version`: of this program, and of the server if there is one.

use proto::v1;

use crate::{
    args::Global,
    connect::connect,
    contexts::Goal,
    exit::{Code, Failure},
    output::print,
};

pub async fn run(global: &Global) -> Result<Code, Failure> {
    let answer = match connect(global).await {
        Ok(mut client) => client.get_version(v1::GetVersionRequest {}).await.ok(),
        Err(_) => None,
    };
    let server = match answer {
        Some(answer) => answer.into_inner().server_version,
        None => match Goal::of(global)? {
            Goal::Socket(socket) => format!("none answers at {}", socket.display()),
            Goal::Remote(remote) => format!("none of {} answers", remote.named),
        },
    };
    print(&format!("client {}\nserver {server}\n", env!("CARGO_PKG_VERSION")))?;
    Ok(Code::Done)
}
