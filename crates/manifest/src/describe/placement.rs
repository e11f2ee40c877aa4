//! Where the replicas of a service may be.

use model::PlacementRules;

use super::named;
use crate::leaf::word::{LABEL_NAME, LABEL_VALUE};
use crate::shape::record::{Fields, Record, lens};

pub(crate) fn rules() -> Record<PlacementRules> {
    let fields = Fields::<PlacementRules>::new()
        .field(
            "nodes",
            "Labels that a node must have. Every node has its name as `wharf/name`. Replicas that have a \
             node already stay there.",
            named(LABEL_VALUE),
            lens!(nodes),
        )
        .optional(
            "spread",
            "A label of the nodes, such as `zone`: replicas are spread as evenly over its values as there is room.",
            LABEL_NAME,
            lens!(spread),
        );
    let about = "Which nodes the replicas go to. A change of it is no new revision: it is for the replicas that \
                 come after it.";
    Record::new("Placement", about, PlacementRules::default(), fields)
}
