//! `wharf logs`: what containers wrote, from every replica at once, each line with whose it is.

use std::io::Write;

use owo_colors::{AnsiColors, OwoColorize};
use proto::v1;

use crate::{
    args::{self, Global},
    connect::Client,
    exit::{Code, Failure},
    output::text,
};

const COLOURS: [AnsiColors; 6] = [
    AnsiColors::Cyan,
    AnsiColors::Green,
    AnsiColors::Yellow,
    AnsiColors::Magenta,
    AnsiColors::Blue,
    AnsiColors::BrightRed,
];

pub async fn run(client: &mut Client, global: &Global, args: args::Logs) -> Result<Code, Failure> {
    let key = args.target.key(&global.namespace);
    let since = args.since.map(|since| text::now_unix_ms().saturating_sub(since.as_millis() as u64));
    let request = v1::LogsRequest {
        namespace: key.namespace,
        service: key.name,
        replica: args.target.selector(),
        container: args.container.clone(),
        follow: args.follow,
        tail: args.tail,
        since_unix_ms: since,
        previous: false,
    };
    let mut lines = client.logs(request).await?.into_inner();
    if args.follow {
        while let Some(line) = lines.message().await? {
            print(&args, &line)?;
        }
        return Ok(Code::Done);
    }
    // The lines of several replicas come side by side; told together they are a story only in the order of time.
    let mut all = Vec::new();
    while let Some(line) = lines.message().await? {
        all.push(line);
    }
    all.sort_by_key(|line| line.unix_ns);
    all.iter().try_for_each(|line| print(&args, line))?;
    Ok(Code::Done)
}

fn print(args: &args::Logs, line: &v1::LogLine) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    let colour = COLOURS[line.slot as usize % COLOURS.len()];
    let mut prefix = format!("{}.{}", args.target.service, line.slot);
    if line.container != "main" && args.container.is_none() {
        prefix.push_str(&format!("/{}", line.container));
    }
    let time =
        if args.timestamps { format!("{} ", text::time_of(line.unix_ns / 1_000_000)) } else { String::new() };
    let written = write!(out, "{} {time}", format!("{prefix} |").color(colour))
        .and_then(|()| out.write_all(&line.text))
        .and_then(|()| out.write_all(b"\n"));
    // Whoever reads the pipe has seen enough: the end of `wharf logs | head`.
    written.map_err(|error| Failure::new("the output cannot be written").caused_by(error))
}
