//! What has to be said beside an answer: that it may be old, and that not everything was looked at.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::answer::Answer;

/// For people, on standard error; empty where there is nothing to say.
pub fn text(answer: &Answer) -> String {
    let mut text = String::new();
    if let Some(stale) = &answer.stale {
        let server =
            stale.server.as_deref().map_or_else(|| "the server".to_owned(), |name| format!("server {name}"));
        let age = match (stale.leads, stale.leader_heard_ms_ago) {
            (true, _) => "it leads, or was the last to".to_owned(),
            (false, Some(ms)) => {
                let seconds = Duration::from_millis(ms).as_secs_f64();
                format!("it last heard from a leader {seconds:.1}s ago, and does not hear what nodes report")
            }
            (false, None) => "it has not heard from a leader since it started".to_owned(),
        };
        text += &format!("may be old: {server} answered from what it knows; {age}\n");
    }
    match answer.narrowed_to.as_slice() {
        [] => {}
        [one] => text += &format!("only namespace {one} was looked at: your token is for no other\n"),
        several => {
            text += &format!(
                "only namespaces {} were looked at: your token is for no others\n",
                several.join(", ")
            );
        }
    }
    text
}

/// For programs: what may be old says so around it.
pub fn around(answer: &Answer, items: Json) -> Json {
    match &answer.stale {
        None => items,
        Some(stale) => json!({
            "stale": {
                "server": stale.server,
                "leads": stale.leads,
                "leaderHeardMsAgo": stale.leader_heard_ms_ago,
            },
            "items": items,
        }),
    }
}

#[cfg(test)]
mod tests {
    use proto::v1::Staleness;

    use super::*;

    #[test]
    fn whoever_takes_a_stale_answer_is_told_how_old_it_may_be() {
        let mut answer = crate::shown::fixtures::answer();
        assert_eq!((text(&answer), around(&answer, json!([1]))), (String::new(), json!([1])));
        let server = Some("server-2".to_owned());
        answer.stale = Some(Staleness { server, leads: false, leader_heard_ms_ago: Some(1_250) });
        answer.narrowed_to = vec!["shop".to_owned(), "web".to_owned()];
        assert_eq!(
            text(&answer),
            "may be old: server server-2 answered from what it knows; it last heard from a leader 1.2s ago, and does not \
             hear what nodes report\nonly namespaces shop, web were looked at: your token is for no others\n"
        );
        assert_eq!(around(&answer, json!([1]))["stale"]["leaderHeardMsAgo"], 1_250);
    }
}
