//! What people see, held against goldens: tables, descriptions, plans, verdicts and help, made of fixed answers.
//!
//! `UPDATE_GOLDENS=1 cargo test -p cli` writes them anew; read what changed before committing it.

pub(crate) mod fixtures;
mod verdicts;

use std::path::Path;

use clap::CommandFactory;
use manifest::Manifest;
use proto::v1;

use self::fixtures::{answer, clock};
use crate::{
    answer::{Answer, ReplicaView},
    args::Args,
    output::{
        describe, json,
        plan::{self, Detail},
        tables::{self, Width},
        text::Format,
    },
};

/// Compares a text, without its colours, with the golden of that name.
fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.txt"));
    let text = anstream::adapter::strip_str(text).to_string();
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(&path, &text).expect("the golden can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = similar::TextDiff::from_lines(&expected, &text).unified_diff().to_string();
    assert!(expected == text, "{} differs; UPDATE_GOLDENS=1 writes it anew:\n{differs}", path.display());
}

fn replicas(answer: &Answer) -> Vec<&ReplicaView> {
    answer.services.iter().flat_map(|found| &found.replicas).collect()
}

#[test]
fn tables_for_people() {
    let answer = answer();
    let clock = clock();
    let nodes: Vec<_> = answer.nodes.iter().collect();
    let image = v1::Image {
        reference: "wharf.local/hello:1".to_owned(),
        digest: format!("sha256:{}", "8c".repeat(32)),
        node: 1,
        node_name: "vm".to_owned(),
        size_bytes: 115_343_360,
        created_at_unix_ms: 0,
    };
    let mut text = String::new();
    for width in [Width::Normal, Width::Wide] {
        text.push_str(&format!("# {width:?}\n"));
        text.push_str(&tables::services(&answer.services, &clock, width));
        text.push_str(&tables::replicas(&replicas(&answer), &clock, width));
        text.push_str(&tables::nodes(&nodes, &clock, width));
        text.push_str(&tables::images(std::slice::from_ref(&image), &clock, width));
    }
    text.push_str("# Revisions and events\n");
    text.push_str(&tables::revisions(&answer.services, &clock));
    text.push_str(&tables::events(&answer.events, &clock));
    check("tables", &text);
}

#[test]
fn descriptions() {
    let answer = answer();
    let web = &answer.services[0];
    check("describe-service", &describe::service(web, &answer.events, &clock()));
    check("describe-slot", &describe::slot(web, 2, &answer.events, &clock()));
    check("describe-node", &describe::node(&answer.nodes[0], &replicas(&answer), &clock()));
}

#[test]
fn data_for_programs() {
    let answer = answer();
    let web = &answer.services[0];
    let yaml = |value| Format::Yaml.render(&value).expect("YAML");
    let all = [
        yaml(json::service(web)),
        yaml(json::revision(web, &web.revisions[1])),
        yaml(json::node(&answer.nodes[0])),
        yaml(json::event(&answer.events[0])),
    ];
    check("data", &all.join("---\n"));
}

#[test]
fn plans_of_an_apply() {
    let before = fixtures::manifest("");
    let changed = fixtures::manifest("  replicas: 5\n  env: {MODE: fast}\n");
    let result =
        |outcome: v1::apply_result::Outcome, new: &Manifest, old: Option<&Manifest>| v1::ApplyResult {
            service: Some(v1::ServiceKey::from(&new.key)),
            outcome: outcome.into(),
            generation: 2,
            revision: 2,
            rollout: outcome == v1::apply_result::Outcome::Changed,
            previous: old.map(|old| v1::Service::from(&fixtures::service(old))),
            resolved: Some(v1::ServiceSpec::from(&new.spec)),
        };
    use v1::apply_result::Outcome;
    let created = result(Outcome::Created, &before, None);
    let altered = result(Outcome::Changed, &changed, Some(&before));
    let same = result(Outcome::Unchanged, &before, Some(&before));
    let mut text = String::new();
    for (manifest, result) in [(&before, &created), (&changed, &altered), (&before, &same)] {
        for detail in [Detail::Summary, Detail::Fields] {
            text.push_str(&format!("# {:?}, {detail:?}\n", result.outcome()));
            text.push_str(&plan::plan(manifest, result, detail).expect("a plan"));
        }
        text.push_str(&format!("{}\n", plan::done(result).expect("a result")));
    }
    check("plan", &text);
}

#[test]
fn help() {
    let mut text = String::new();
    let mut command = Args::command().term_width(100);
    command.build();
    text.push_str(&command.render_long_help().to_string());
    let names: Vec<String> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    for name in names.iter().filter(|name| *name != "help") {
        let verb = command.find_subcommand_mut(name).expect("a verb");
        let own = verb.render_help().to_string();
        // The global options are the same everywhere.
        let own: Vec<&str> = own.split("\n\n").filter(|part| !part.starts_with("Global options")).collect();
        text.push_str(&format!("\n# wharf {name}\n\n{}\n", own.join("\n\n").trim_end()));
    }
    check("help", &text);
}
