//! `wharf events`: what happened, oldest first.

use serde_json::Value as Json;

use crate::{
    answer::EventView,
    args::{self, Global, Output},
    ask::{self, Question},
    connect::Client,
    exit::{Code, Failure},
    output::{caveats, clock::Clock, json, print, remark, tables, text::Format, words::or_dash},
    watching::Watching,
};

pub async fn run(client: &mut Client, global: &Global, args: args::Events) -> Result<Code, Failure> {
    let key = args.service.as_ref().map(|target| target.key(&global.namespace));
    let question = match (&key, args.all_namespaces) {
        (Some(key), _) => Question::named([key]),
        (None, true) => Question::all(),
        (None, false) => Question::namespace(&global.namespace),
    };
    let question = question.with_events(args.tail);
    if args.watch {
        return watch(client, &question, args.output).await;
    }
    let answer = ask::status(client, question).await?;
    if let Some(key) = &key
        && answer.events.is_empty()
        && answer.service(key).is_none()
    {
        return Err(ask::unknown_service(client, key).await);
    }
    remark(&caveats::text(&answer));
    match Format::of(args.output) {
        Some(format) => {
            let events = answer.events.iter().map(json::event).collect::<Json>();
            format.print(&caveats::around(&answer, events))?
        }
        None if answer.events.is_empty() => {
            remark("nothing has happened here; -A tells of all namespaces and nodes\n")
        }
        None => print(&tables::events(&answer.events, &Clock::at(answer.now)))?,
    }
    Ok(Code::Done)
}

async fn watch(client: &mut Client, question: &Question, output: Output) -> Result<Code, Failure> {
    let mut watching = Watching::new(client, question);
    let mut shown: Vec<EventView> = Vec::new();
    loop {
        let answer = watching.next().await?;
        for event in news(&shown, &answer.events) {
            print(&line(event, &Clock::at(answer.now), output)?)?;
        }
        shown = answer.events;
    }
}

/// Each answer holds the newest events: those after the last one shown are new. Where none of those shown is among them
/// any more, all are.
fn news<'a>(shown: &[EventView], newest: &'a [EventView]) -> &'a [EventView] {
    let known = |overlap: &usize| shown.ends_with(&newest[..*overlap]);
    let overlap = (0..=newest.len().min(shown.len())).rev().find(known).unwrap_or(0);
    &newest[overlap..]
}

/// An event on a line: columns of a table cannot be wider for what is still to come.
fn line(event: &EventView, clock: &Clock, output: Output) -> Result<String, Failure> {
    match Format::of(output) {
        Some(Format::Json) => Ok(format!("{}\n", json::event(event))),
        Some(Format::Yaml) => Ok(format!("---\n{}", Format::Yaml.render(&json::event(event))?)),
        None => {
            Ok(format!("{}  {}  {}\n", clock.time(event.at), or_dash(event.service.as_ref()), event.what))
        }
    }
}

#[cfg(test)]
mod tests {
    use model::Timestamp;

    use super::*;

    #[test]
    fn only_what_was_not_shown_is_new() {
        let events = |text: &str| -> Vec<EventView> {
            text.chars().map(|c| EventView { at: Timestamp(0), service: None, what: c.to_string() }).collect()
        };
        let check = |shown: &str, newest: &str, expected: &str| {
            assert_eq!(news(&events(shown), &events(newest)), events(expected), "{shown} then {newest}");
        };
        check("", "abc", "abc");
        check("abc", "abc", "");
        check("abc", "abcd", "d");
        check("abc", "bcd", "d");
        check("abc", "xyz", "xyz");
        // The same thing may happen again and again.
        check("aa", "aaa", "a");
        check("ab", "aba", "a");
    }
}
