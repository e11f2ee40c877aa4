//! What users decide of nodes.

use std::{collections::BTreeMap, sync::Arc};

use manager::{NodeRequest, Request, View};
use model::{
    Millis, Node, NodeId,
    node::{check_label_name, check_label_value},
};
use proto::v1::{self, Reason, change_node_request::Change};
use tonic::Status;

use super::{
    Control,
    refuse::{invalid, not_found, refuse, unread},
};
use crate::{
    access::Passed,
    limits::{check_reason, check_relabelled},
};

impl Control {
    pub(super) async fn do_change_node(
        &self,
        asked: Passed<v1::ChangeNodeRequest>,
    ) -> Result<v1::ChangeNodeResponse, Status> {
        let request = asked.into_inner();
        let asked = read(request.change.ok_or_else(|| invalid("nothing is asked of the node"))?)?;
        let view = self.brain.read().await.map_err(unread)?;
        // Asked again after an answer that was lost.
        if matches!(asked, NodeRequest::Remove { .. })
            && let Some(gone) = removed(&view, &request.node)
        {
            return Ok(v1::ChangeNodeResponse { node: gone.0, name: gone.to_string() });
        }
        let found = find(&view, &request.node)?;
        if let NodeRequest::Label { set, unset } = &asked {
            check_relabelled(&found, set.keys(), unset)?;
        }
        let (node, name) = (found.info.id, found.info.name.to_string());
        self.request(Request::Node { node, asked }).await?;
        Ok(v1::ChangeNodeResponse { node: node.0, name })
    }
}

fn read(change: Change) -> Result<NodeRequest, Status> {
    Ok(match change {
        Change::Cordon(cordon) => NodeRequest::Cordon { reason: check_reason(cordon.reason)? },
        Change::Uncordon(_) => NodeRequest::Uncordon,
        Change::Drain(drain) => {
            NodeRequest::Drain { within: drain.within_ms.map(Millis), reason: check_reason(drain.reason)? }
        }
        Change::Remove(remove) => NodeRequest::Remove { force: remove.force },
        Change::Label(label) => {
            let set: BTreeMap<String, String> = label.set.into_iter().collect();
            for (name, value) in &set {
                check_label_name(name).map_err(invalid)?;
                check_label_value(value).map_err(invalid)?;
            }
            label.unset.iter().try_for_each(|name| check_label_name(name)).map_err(invalid)?;
            if let Some(both) = label.unset.iter().find(|name| set.contains_key(*name)) {
                return Err(invalid(format!("the label {both} is set and taken away at once")));
            }
            NodeRequest::Label { set, unset: label.unset.into_iter().collect() }
        }
    })
}

/// One that was removed is known by its id and no longer by its name.
fn removed(view: &View, named: &str) -> Option<NodeId> {
    named.parse().ok().filter(|id| view.state.node_removed_at(*id).is_some())
}

/// The node that a user means. Several can have one name: an agent that lost its data folder is another node.
fn find(view: &View, named: &str) -> Result<Arc<Node>, Status> {
    let is_meant = |node: &&Arc<Node>| node.info.name.as_str() == named || node.info.id.to_string() == named;
    let found: Vec<_> = view.state.nodes().filter(is_meant).collect();
    match found.as_slice() {
        [] => Err(not_found(format!("there is no node {named}; `wharf get nodes` lists all"))),
        [one] => Ok(Arc::clone(one)),
        several => {
            let ids: Vec<String> = several
                .iter()
                .map(|node| format!("{} ({})", node.info.id, view.reach(node).as_str()))
                .collect();
            let count = several.len();
            let message = format!("{count} nodes are called {named}: {}; name one by its id", ids.join(", "));
            Err(refuse(Reason::Invalid, message))
        }
    }
}
