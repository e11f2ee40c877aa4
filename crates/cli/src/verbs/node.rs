//! `wharf node`: what people decide of nodes.

use proto::{
    reason::reason,
    v1::{
        self, Reason,
        change_node_request::{Change, Cordon, Drain, Label, Remove, Uncordon},
    },
};

use crate::{
    answer::NodeView,
    args,
    ask::{self, Question},
    connect::Client,
    exit::{Code, Failure},
    output::say,
};

pub async fn run(client: &mut Client, verb: args::Node) -> Result<Code, Failure> {
    let (nodes, change, done) = match verb {
        args::Node::Cordon { nodes, reason } => (nodes, Change::Cordon(Cordon { reason }), "cordoned"),
        args::Node::Uncordon { nodes } => (nodes, Change::Uncordon(Uncordon {}), "uncordoned"),
        args::Node::Drain(drain) => return self::drain(client, drain).await,
        args::Node::Rm { nodes, force, ignore_not_found } => {
            return remove(client, nodes, force, ignore_not_found).await;
        }
        args::Node::Label(label) => {
            let node = label.node.clone();
            let (set, unset) = label.sorted();
            let unset = unset.into_iter().collect();
            (vec![node], Change::Label(Label { set: set.into_iter().collect(), unset }), "labelled")
        }
    };
    for node in nodes {
        let name = change_node(client, &node, change.clone()).await?;
        say(format_args!("node {name} {done}"));
    }
    Ok(Code::Done)
}

/// By their ids: a request that is sent again, because its answer was lost, is known by them.
async fn remove(
    client: &mut Client,
    nodes: Vec<String>,
    force: bool,
    ignore_not_found: bool,
) -> Result<Code, Failure> {
    let known = ask::status(client, Question::nodes()).await?.nodes;
    for node in nodes {
        let bare = node.strip_prefix("node/").unwrap_or(&node);
        let id = |known: &NodeView| known.node.info.id.to_string();
        let named: Vec<&NodeView> = known.iter().filter(|known| known.name() == bare).collect();
        let (asked, name) = match named.as_slice() {
            [one] => (id(one), one.name().to_owned()),
            [] if ignore_not_found && !known.iter().any(|known| id(known) == bare) => {
                say(format_args!("there is no node {bare}"));
                continue;
            }
            // It is an id, or the server says what is wrong with a name that is nobody's or several nodes'.
            [..] => (bare.to_owned(), bare.to_owned()),
        };
        change_node(client, &asked, Change::Remove(Remove { force })).await?;
        say(format_args!("node {name} removed"));
    }
    Ok(Code::Done)
}

async fn drain(client: &mut Client, drain: args::Drain) -> Result<Code, Failure> {
    let args::Drain { nodes, deadline, reason, wait, timeout } = drain;
    let within_ms = deadline.map(|deadline| deadline.as_millis() as u64);
    let change = Change::Drain(Drain { within_ms, reason });
    for node in &nodes {
        let name = change_node(client, node, change.clone()).await?;
        say(format_args!("node {name} is being drained"));
    }
    if !wait {
        return Ok(Code::Done);
    }
    let bare: Vec<String> =
        nodes.iter().map(|node| node.strip_prefix("node/").unwrap_or(node).to_owned()).collect();
    super::drain::wait(client, &bare, timeout).await
}

/// Asks for the change; returns the node's name.
async fn change_node(client: &mut Client, node: &str, change: Change) -> Result<String, Failure> {
    let node = node.strip_prefix("node/").unwrap_or(node).to_owned();
    let request = v1::ChangeNodeRequest { node: node.clone(), change: Some(change) };
    match client.change_node(request).await {
        Ok(answer) => Ok(answer.into_inner().name),
        Err(status) if reason(&status) == Some(Reason::NotFound) => {
            let answer = ask::status(client, Question::nodes()).await?;
            let known: Vec<&str> = answer.nodes.iter().map(NodeView::name).collect();
            Err(ask::no_such_node(&node, &known))
        }
        // No manifest is at fault here.
        Err(status) if reason(&status) == Some(Reason::Invalid) => Err(Failure::new(status.message())),
        Err(status) => Err(status.into()),
    }
}
