//! Where the replicas of a service may be.

use model::{Millis, NodeLoss, PlacementRules};

use super::{named, template::DAY};
use crate::leaf::amount::Span;
use crate::leaf::word::{LABEL_NAME, LABEL_VALUE};
use crate::shape::record::{Fields, Record, lens};

pub(crate) fn rules() -> Record<PlacementRules> {
    let fields = Fields::<PlacementRules>::new()
        .field(
            "nodes",
            "Labels that a node must have. Every node has its name as `wharf/name`. Replicas on nodes that \
             lack one are replaced on others.",
            named(LABEL_VALUE),
            lens!(nodes),
        )
        .optional(
            "spread",
            "A label of the nodes, such as `zone`: replicas are spread as evenly over its values as there is room.",
            LABEL_NAME,
            lens!(spread),
        );
    let about = "Which nodes the replicas go to. A change of it is no new revision: only replicas that are where \
                 they may not be are replaced.";
    Record::new("Placement", about, PlacementRules::default(), fields)
}

pub(crate) fn node_loss() -> Record<NodeLoss> {
    let fields = Fields::<NodeLoss>::new().field(
        "replaceAfter",
        "How long a node that is down may take to return before its replicas are replaced. One that returns in time \
         goes on with them; one that returns later stops them.",
        Span { min: Millis::ZERO, max: DAY },
        lens!(replace_after),
    );
    let about = "What becomes of replicas whose node is lost. A change of it is no new revision.";
    Record::new("NodeLoss", about, NodeLoss::default(), fields)
}
