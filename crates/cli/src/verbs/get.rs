//! `wharf get`: lists.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use serde_json::Value as Json;

use crate::{
    answer::{Answer, NodeView, ReplicaView},
    args::{self, Global, Kind, Output},
    ask::{self, Question},
    connect::Client,
    exit::{Code, Failure},
    output::{
        caveats,
        clock::Clock,
        json,
        live::Live,
        print, remark,
        tables::{self, Width},
        text::{Format, lines},
        words,
    },
    target::Target,
    watching::Watching,
};

pub async fn run(client: &mut Client, global: &Global, args: args::Get) -> Result<Code, Failure> {
    let listing = Listing::new(global, &args)?;
    if args.watch {
        return watch(client, &listing).await;
    }
    let answer = ask::status(client, listing.question.clone()).await?;
    listing.check_names(client, &answer).await?;
    remark(&caveats::text(&answer));
    let text = listing.render(&answer, &Clock::at(answer.now))?;
    print(&text)?;
    if text.is_empty() {
        remark(listing.nothing());
    }
    Ok(Code::Done)
}

/// What is listed, and how.
struct Listing {
    kind: Kind,
    output: Output,
    targets: Vec<Target>,
    /// The nodes meant; all of them where none is named.
    nodes: Vec<String>,
    namespace: model::Name,
    question: Question,
}

impl Listing {
    fn new(global: &Global, args: &args::Get) -> Result<Listing, Failure> {
        let is_nodes = args.kind == Kind::Nodes;
        let named = if is_nodes { &[] } else { args.names.as_slice() };
        let targets = named.iter().map(|name| name.parse()).collect::<Result<Vec<Target>, String>>();
        let targets = targets.map_err(Failure::new)?;
        if args.kind != Kind::Replicas
            && let Some(target) = targets.iter().find(|target| target.slot.is_some())
        {
            let help =
                format!("`wharf get replicas {}.{}` does", target.service, target.slot.unwrap_or_default());
            return Err(Failure::new("slots are of replicas; this lists something else").help(help));
        }
        let question = match (is_nodes, targets.is_empty(), args.all_namespaces) {
            (true, _, _) => Question::nodes(),
            (false, true, true) => Question::all(),
            (false, true, false) => Question::namespace(&global.namespace),
            (false, false, _) => {
                let keys: Vec<_> = targets.iter().map(|target| target.key(&global.namespace)).collect();
                Question::named(&keys)
            }
        };
        let without_kind = |name: &String| name.strip_prefix("node/").unwrap_or(name).to_owned();
        let nodes = if is_nodes { args.names.iter().map(without_kind).collect() } else { Vec::new() };
        let namespace = global.namespace.clone();
        Ok(Listing { kind: args.kind, output: args.output, targets, nodes, namespace, question })
    }

    /// What was named and is not there is an error, with the one that was probably meant.
    async fn check_names(&self, client: &mut Client, answer: &Answer) -> Result<(), Failure> {
        let known: Vec<&str> = answer.nodes.iter().map(NodeView::name).collect();
        if let Some(missing) = self.nodes.iter().find(|name| !known.contains(&name.as_str())) {
            return Err(ask::no_such_node(missing, &known));
        }
        for target in &self.targets {
            let key = target.key(&self.namespace);
            let Some(found) = answer.service(&key) else {
                return Err(ask::unknown_service(client, &key).await);
            };
            if let Some(slot) = target.slot
                && !found.replicas.iter().any(|found| found.replica.slot.get() == slot)
            {
                return Err(ask::no_such_slot(found, slot));
            }
        }
        Ok(())
    }

    /// Empty where there is nothing to show.
    fn render(&self, answer: &Answer, clock: &Clock) -> Result<String, Failure> {
        if let Some(format) = Format::of(self.output) {
            return format.render(&caveats::around(answer, self.json(answer)));
        }
        if self.output == Output::Name {
            return Ok(lines(self.names(answer)));
        }
        let width = if self.output == Output::Wide { Width::Wide } else { Width::Normal };
        if self.names(answer).is_empty() {
            return Ok(String::new());
        }
        Ok(match self.kind {
            Kind::Services => tables::services(&answer.services, clock, width),
            Kind::Replicas => tables::replicas(&self.replicas(answer), clock, width),
            Kind::Nodes => tables::nodes(&self.nodes(answer), clock, width),
            Kind::Revisions => tables::revisions(&answer.services, clock),
        })
    }

    /// As `describe`, `delete` and the others take them.
    fn names(&self, answer: &Answer) -> Vec<String> {
        let services = answer.services.iter();
        match self.kind {
            Kind::Services => services.map(|found| format!("service/{}", found.service.key)).collect(),
            Kind::Replicas => {
                // A slot may have two: one that stops, and one that takes its place.
                let names: BTreeSet<String> =
                    self.replicas(answer).iter().map(|found| words::slot_name(&found.replica)).collect();
                names.into_iter().collect()
            }
            Kind::Nodes => self.nodes(answer).iter().map(|found| format!("node/{}", found.name())).collect(),
            Kind::Revisions => {
                let key = |found: &crate::answer::ServiceView| found.service.key.clone();
                services
                    .flat_map(|found| {
                        found.revisions.iter().map(move |r| format!("{}@{}", key(found), r.number))
                    })
                    .collect()
            }
        }
    }

    fn json(&self, answer: &Answer) -> Json {
        let mut list: Vec<Json> = match self.kind {
            Kind::Services => answer.services.iter().map(json::service).collect(),
            Kind::Replicas => self.replicas(answer).into_iter().map(json::replica).collect(),
            Kind::Nodes => self.nodes(answer).into_iter().map(json::node).collect(),
            Kind::Revisions => {
                let of = |found| move |revision| json::revision(found, revision);
                answer.services.iter().flat_map(|found| found.revisions.iter().map(of(found))).collect()
            }
        };
        // One that was named is that object itself, as it was applied; anything else is a list.
        let names_one_object = match self.kind {
            Kind::Services => self.targets.len() == 1,
            Kind::Nodes => self.nodes.len() == 1,
            Kind::Replicas | Kind::Revisions => false,
        };
        if names_one_object && list.len() == 1 { list.remove(0) } else { Json::from(list) }
    }

    fn replicas<'a>(&self, answer: &'a Answer) -> Vec<&'a ReplicaView> {
        let is_meant = |found: &&ReplicaView| {
            let replica = &found.replica;
            let meant = |target: &Target| {
                target.key(&self.namespace) == replica.service
                    && target.slot.is_none_or(|slot| slot == replica.slot.get())
            };
            self.targets.is_empty() || self.targets.iter().any(meant)
        };
        answer.services.iter().flat_map(|found| &found.replicas).filter(is_meant).collect()
    }

    fn nodes<'a>(&self, answer: &'a Answer) -> Vec<&'a NodeView> {
        let is_meant =
            |found: &&NodeView| self.nodes.is_empty() || self.nodes.iter().any(|name| name == found.name());
        answer.nodes.iter().filter(is_meant).collect()
    }

    fn nothing(&self) -> &'static str {
        match self.kind {
            Kind::Services => {
                "no services here; `wharf apply -f FILE` makes one, -A shows those of all namespaces\n"
            }
            Kind::Replicas => "no replicas here; -A shows those of all namespaces\n",
            Kind::Nodes => "no agent has registered yet\n",
            Kind::Revisions => "no revisions here; -A shows those of all namespaces\n",
        }
    }
}

/// Shows the list whenever it changes: in place on a terminal, with ages that grow; one below the other in a pipe.
async fn watch(client: &mut Client, listing: &Listing) -> Result<Code, Failure> {
    let mut watching = Watching::new(client, &listing.question);
    let mut answer = watching.next().await?;
    listing.check_names(watching.client(), &answer).await?;
    remark(&caveats::text(&answer));
    let is_table = Format::of(listing.output).is_none();
    let mut live = Live::on_terminal().filter(|_| is_table);
    let pause = Duration::from_secs(if live.is_some() { 1 } else { 3_600 });
    let mut heard = Instant::now();
    let mut shown = String::new();
    loop {
        let text = listing.render(&answer, &Clock::at(answer.now).later(heard.elapsed()))?;
        let text = if text.is_empty() { listing.nothing().to_owned() } else { text };
        if let Some(live) = &mut live {
            live.show(&text.lines().map(str::to_owned).collect::<Vec<_>>());
        } else if text != shown {
            let gap = if is_table && !shown.is_empty() { "\n" } else { "" };
            print(&format!("{gap}{text}"))?;
            shown = text;
        }
        match tokio::time::timeout(pause, watching.next()).await {
            Ok(next) => {
                answer = next?;
                heard = Instant::now();
            }
            Err(_) => watching.is_quiet(),
        }
    }
}
