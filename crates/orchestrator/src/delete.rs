//! A deleted service: every replica stops, and the service goes with the last of them.

use model::StopReason;

use crate::{draft::Draft, member::Member};

pub(crate) fn delete(draft: &mut Draft<'_>) {
    let kept: Vec<Member<'_>> = draft.members().filter(|member| member.is_kept()).copied().collect();
    for member in kept {
        draft.stop(&member, StopReason::Deleted);
    }
    if draft.members().next().is_none() {
        draft.remove();
    }
}
