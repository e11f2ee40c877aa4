//! `wharf describe`: everything about a service, a slot of it, or a node.

use model::NodeId;

use crate::{
    answer::{NodeView, ReplicaView},
    args::{self, Global, What},
    ask::{self, Question},
    connect::Client,
    exit::{Code, Failure},
    output::{caveats, clock::Clock, describe, print, remark},
    target::Target,
};

/// How far back the story goes.
const EVENTS: u32 = 30;
/// Those of one slot are picked from those of all.
const EVENTS_OF_ALL_SLOTS: u32 = 1_000;

pub async fn run(client: &mut Client, global: &Global, args: args::Describe) -> Result<Code, Failure> {
    match args.what {
        What::Node(name) => node(client, &name).await?,
        What::Service(target) => service(client, global, &target).await?,
    }
    Ok(Code::Done)
}

async fn node(client: &mut Client, name: &str) -> Result<(), Failure> {
    let answer = ask::status(client, Question::all()).await?;
    let Some(found) = answer.nodes.iter().find(|node| node.name() == name) else {
        let known: Vec<&str> = answer.nodes.iter().map(NodeView::name).collect();
        return Err(ask::no_such_node(name, &known));
    };
    remark(&caveats::text(&answer));
    let id: NodeId = found.node.info.id;
    let all = answer.services.iter().flat_map(|service| &service.replicas);
    let here: Vec<&ReplicaView> = all.filter(|found| found.replica.node == Some(id)).collect();
    print(&describe::node(found, &here, &Clock::at(answer.now)))
}

async fn service(client: &mut Client, global: &Global, target: &Target) -> Result<(), Failure> {
    let key = target.key(&global.namespace);
    let events = target.slot.map_or(EVENTS, |_| EVENTS_OF_ALL_SLOTS);
    let answer = ask::status(client, Question::named([&key]).with_events(events)).await?;
    let Some(found) = answer.service(&key) else {
        return Err(ask::unknown_service(client, &key).await);
    };
    remark(&caveats::text(&answer));
    let clock = Clock::at(answer.now);
    let Some(slot) = target.slot else {
        return print(&describe::service(found, &answer.events, &clock));
    };
    if !found.replicas.iter().any(|found| found.replica.slot.get() == slot) {
        return Err(ask::no_such_slot(found, slot));
    }
    print(&describe::slot(found, slot, &answer.events, &clock))
}
