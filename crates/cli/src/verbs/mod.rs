//! One file per verb.

pub mod agent;
mod apply;
mod authority;
mod cluster;
mod completion;
mod context;
mod delete;
mod describe;
mod dev;
mod diff;
mod doctor;
mod drain;
mod events;
mod exec;
mod get;
mod image;
mod join;
mod logs;
mod node;
pub mod rescue;
mod rollout;
mod scale;
pub mod server;
mod token;
mod version;

use std::process::ExitCode;

use crate::{
    args::{Global, Verb},
    connect::{connect, connect_for},
    exit::{Code, Failure},
    output::text::Format,
};

/// Runs a verb that talks to a server, or to nobody. Those that read manifests connect after they have read them: what
/// is wrong with a file can be told without a server.
pub async fn run(global: &Global, verb: Verb) -> Result<ExitCode, Failure> {
    let code = match verb {
        Verb::Dev(args) => dev::run(global, args).await?,
        Verb::Apply(args) => apply::run(global, args).await?,
        Verb::Diff(args) => diff::run(global, args).await?,
        Verb::Get(args) => {
            get::run(&mut connect_for(global, args.stale.freshness()).await?, global, args).await?
        }
        Verb::Describe(args) => {
            describe::run(&mut connect_for(global, args.stale.freshness()).await?, global, args).await?
        }
        Verb::Delete(args) => delete::run(global, args).await?,
        Verb::Scale(args) => scale::run(&mut connect(global).await?, global, args).await?,
        Verb::Logs(args) => logs::run(&mut connect(global).await?, global, args).await?,
        Verb::Exec(args) => return exec::run(&mut connect(global).await?, global, args).await,
        Verb::Rollout(args) => {
            rollout::run(&mut connect_for(global, args.freshness()).await?, global, args).await?
        }
        Verb::Events(args) => {
            events::run(&mut connect_for(global, args.stale.freshness()).await?, global, args).await?
        }
        Verb::Image(args) => image::run(&mut connect(global).await?, args).await?,
        Verb::Node(args) => node::run(&mut connect(global).await?, args).await?,
        Verb::Token(verb) => token::run(global, verb).await?,
        Verb::Context(verb) => context::run(verb)?,
        Verb::Cluster(verb) => cluster::run(global, verb).await?,
        Verb::Join(args) => join::join(args).await?,
        Verb::Doctor(args) => doctor::run(args)?,
        Verb::Schema => {
            Format::Json.print(&manifest::schema())?;
            Code::Done
        }
        Verb::Completion { shell } => completion::run(shell)?,
        Verb::Version => version::run(global).await?,
        Verb::Server(_) | Verb::Agent(_) => {
            unreachable!("these do not run under the async runtime")
        }
    };
    Ok(code.into())
}
