//! `wharf logs`: what containers wrote, from every replica at once, each line with whose it is.

use std::collections::HashMap;

use model::Timestamp;
use owo_colors::{AnsiColors, OwoColorize};
use proto::v1;

use crate::{
    args::{self, Global},
    ask,
    connect::Client,
    exit::{Code, Failure},
    output::{
        clock::{self, Clock},
        print_raw, shows_colours,
    },
};

const COLOURS: [AnsiColors; 6] = [
    AnsiColors::Cyan,
    AnsiColors::Green,
    AnsiColors::Yellow,
    AnsiColors::Magenta,
    AnsiColors::Blue,
    AnsiColors::BrightRed,
];

/// A line that is longer is shown in pieces: it may never end.
const LONGEST: usize = 1 << 20;

pub async fn run(client: &mut Client, global: &Global, args: args::Logs) -> Result<Code, Failure> {
    let key = args.target.key(&global.namespace);
    let request = v1::LogsRequest {
        namespace: key.namespace.to_string(),
        service: key.name.to_string(),
        replica: args.target.selector(),
        container: args.container.clone(),
        follow: args.follow,
        tail: args.tail,
        since_unix_ms: args.since.map(|since| since.moment(clock::now()).0),
        previous: false,
    };
    let mut lines = match client.logs(request).await {
        Ok(lines) => lines.into_inner(),
        Err(status) => return Err(refused(client, &args, key, status).await),
    };
    let style = Style::new(&args);
    let mut whole = Whole::default();
    // The lines of several replicas come side by side; told together they are a story only in the order of time. Lines
    // that are still to be written cannot be waited for.
    let mut all = Vec::new();
    let ended = loop {
        let line = match lines.message().await {
            Ok(Some(line)) => line,
            Ok(None) => break Ok(Code::Done),
            Err(status) => break Err(status.into()),
        };
        let Some(line) = whole.add(line) else { continue };
        if args.follow {
            print_raw(&style.render(&line))?;
        } else {
            all.push(line);
        }
    };
    // Also where the stream was cut off: what came is worth reading.
    all.extend(whole.rest());
    all.sort_by_key(|line| line.unix_ns);
    all.iter().try_for_each(|line| print_raw(&style.render(line)))?;
    ended
}

async fn refused(
    client: &mut Client,
    args: &args::Logs,
    key: model::ServiceKey,
    status: tonic::Status,
) -> Failure {
    if let Some(slot) = args.target.slot
        && let Ok(found) = ask::service(client, &key).await
        && !found.replicas.iter().any(|found| found.replica.slot.get() == slot)
    {
        return ask::no_such_slot(&found, slot);
    }
    ask::refused(client, &[key], status).await
}

/// Puts lines together that came in pieces.
#[derive(Default)]
struct Whole {
    begun: HashMap<(u64, String, i32), v1::LogLine>,
}

impl Whole {
    fn add(&mut self, mut line: v1::LogLine) -> Option<v1::LogLine> {
        let whose = (line.replica, line.container.clone(), line.stream);
        if let Some(mut begun) = self.begun.remove(&whose) {
            begun.text = [begun.text, line.text].concat().into();
            line = v1::LogLine { partial: line.partial, ..begun };
        }
        if line.partial && line.text.len() < LONGEST {
            self.begun.insert(whose, line);
            return None;
        }
        Some(line)
    }

    /// What was begun and has no end.
    fn rest(self) -> impl Iterator<Item = v1::LogLine> {
        self.begun.into_values()
    }
}

/// How lines are shown.
struct Style {
    service: String,
    /// One slot was named: its lines are shown as they are, so that programs can read them.
    one_slot: bool,
    container_named: bool,
    /// Where times are wanted.
    clock: Option<Clock>,
    colours: bool,
}

impl Style {
    fn new(args: &args::Logs) -> Style {
        Style {
            service: args.target.service.to_string(),
            one_slot: args.target.slot.is_some(),
            container_named: args.container.is_some(),
            clock: args.timestamps.then(|| Clock::at(clock::now())),
            colours: shows_colours(),
        }
    }

    /// The text itself is the container's, colours and all.
    fn render(&self, line: &v1::LogLine) -> Vec<u8> {
        let is_main = line.container == "main" || self.container_named;
        let whose = match (self.one_slot, is_main) {
            (true, true) => None,
            (true, false) => Some(line.container.clone()),
            (false, true) => Some(format!("{}.{}", self.service, line.slot)),
            (false, false) => Some(format!("{}.{}/{}", self.service, line.slot, line.container)),
        };
        let mut out = Vec::with_capacity(line.text.len() + 64);
        if let Some(whose) = whose {
            let prefix = format!("{whose} |");
            let colour = COLOURS[line.slot as usize % COLOURS.len()];
            let prefix = if self.colours { prefix.color(colour).to_string() } else { prefix };
            out.extend_from_slice(prefix.as_bytes());
            out.push(b' ');
        }
        if let Some(clock) = &self.clock {
            out.extend_from_slice(clock.exact_time(Timestamp(line.unix_ns / 1_000_000)).as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(&line.text);
        out.push(b'\n');
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(container: &str, text: &str, partial: bool) -> v1::LogLine {
        let (container, text) = (container.to_owned(), text.as_bytes().to_vec().into());
        v1::LogLine { replica: 1, slot: 2, container, stream: 1, unix_ns: 0, text, partial }
    }

    #[test]
    fn pieces_are_put_together_by_whose_they_are() {
        let mut whole = Whole::default();
        assert_eq!(whole.add(line("main", "one ", true)), None);
        assert_eq!(whole.add(line("proxy", "three", false)), Some(line("proxy", "three", false)));
        assert_eq!(whole.add(line("main", "two", false)), Some(line("main", "one two", false)));
        assert_eq!(whole.add(line("main", "open", true)), None);
        assert_eq!(whole.rest().count(), 1);
    }

    #[test]
    fn a_line_says_whose_it_is_unless_one_slot_was_asked_for() {
        let check = |one_slot, container: &str, expected: &str| {
            let style = Style {
                service: "web".to_owned(),
                one_slot,
                container_named: false,
                clock: Some(Clock::utc(Timestamp(0))),
                colours: false,
            };
            let shown = style.render(&line(container, "hi", false));
            assert_eq!(String::from_utf8_lossy(&shown), expected);
        };
        check(false, "main", "web.2 | 1970-01-01T00:00:00.000+00:00 hi\n");
        check(false, "proxy", "web.2/proxy | 1970-01-01T00:00:00.000+00:00 hi\n");
        check(true, "main", "1970-01-01T00:00:00.000+00:00 hi\n");
        check(true, "proxy", "proxy | 1970-01-01T00:00:00.000+00:00 hi\n");
    }
}
