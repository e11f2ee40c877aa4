//! `wharf diff`: what applying would change; nothing is written.
//!
//! Differences are an answer, not a failure: the exit code is 0 for them too, unless `--exit-code` asks otherwise.

use crate::{
    args::{self, Global},
    connect::connect,
    exit::{Code, Failure},
    manifests,
    output::{
        plan::{self, Detail},
        print,
    },
    verbs::apply::{Try, declare},
};

pub async fn run(global: &Global, args: args::Diff) -> Result<Code, Failure> {
    let manifests = manifests::read(&args.files)?;
    let results = declare(&mut connect(global).await?, &manifests, Try::Dry).await?;
    for (manifest, result) in manifests.iter().zip(&results) {
        print(&plan::plan(manifest, result, Detail::Fields)?)?;
    }
    let differs = results.iter().any(plan::differs);
    Ok(if args.exit_code && differs { Code::Differs } else { Code::Done })
}
