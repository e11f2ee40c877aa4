//! `wharf events`: what happened, oldest first.

use anstream::println;
use proto::v1;

use crate::{
    args::{self, Global, Output},
    connect::Client,
    deploy::name_of,
    exit::{Code, Failure},
    output::{table, text},
};

pub async fn run(client: &mut Client, global: &Global, args: args::Events) -> Result<Code, Failure> {
    use v1::status_request::{All, ServiceKeys, Services};
    let services = match (&args.service, args.all_namespaces) {
        (Some(target), _) => Services::Named(ServiceKeys { keys: vec![target.key(&global.namespace)] }),
        (None, true) => Services::All(All {}),
        (None, false) => Services::Namespace(global.namespace.clone()),
    };
    let request =
        v1::StatusRequest { services: Some(services), nodes: false, events: true, event_limit: args.tail };
    if args.watch {
        return watch(client, request).await;
    }
    let events = client.status(request).await?.into_inner().events;
    match args.output {
        Output::Json | Output::Yaml => {
            let list: Vec<_> = events.iter().map(as_json).collect();
            let value = serde_json::Value::from(list);
            if args.output == Output::Json { text::print_json(&value)? } else { text::print_yaml(&value) }
        }
        Output::Table | Output::Wide | Output::Name => {
            table::print(
                &["TIME", "SERVICE", "WHAT"],
                events.iter().map(row).collect(),
                "nothing has happened yet",
            );
        }
    }
    Ok(Code::Done)
}

async fn watch(client: &mut Client, request: v1::StatusRequest) -> Result<Code, Failure> {
    let mut updates = client.watch(request).await?.into_inner();
    let mut shown: Vec<v1::Event> = Vec::new();
    while let Some(update) = updates.message().await? {
        // Each answer holds the newest events: those after the last one shown are new.
        let known = shown.last().and_then(|last| update.events.iter().rposition(|event| event == last));
        for event in &update.events[known.map_or(0, |position| position + 1)..] {
            println!("{}", row(event).join("  "));
        }
        shown = update.events;
    }
    Ok(Code::Done)
}

fn row(event: &v1::Event) -> Vec<String> {
    let service = event.service.as_ref().map_or_else(|| "-".to_owned(), name_of);
    vec![text::time_of(event.at_unix_ms), service, what(event)]
}

fn as_json(event: &v1::Event) -> serde_json::Value {
    serde_json::json!({
        "at": event.at_unix_ms,
        "service": event.service.as_ref().map(name_of),
        "what": what(event),
    })
}

fn what(event: &v1::Event) -> String {
    match model::Event::try_from(event.clone()) {
        Ok(event) => event.kind.to_string(),
        Err(error) => format!("an event that this version does not know ({error})"),
    }
}
