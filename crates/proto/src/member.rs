//! Members of consensus, as the log and snapshots hold them.

use model::{Member, MemberId, Timestamp};

use crate::{
    error::DecodeError,
    field::{self, same_variants},
    v1,
};

impl From<&Member> for v1::Member {
    fn from(member: &Member) -> Self {
        v1::Member {
            id: member.id.0,
            name: member.name.to_string(),
            address: member.address.clone(),
            part: v1::MemberPart::from(member.part).into(),
            since_unix_ms: member.since.0,
        }
    }
}

impl TryFrom<v1::Member> for Member {
    type Error = DecodeError;
    fn try_from(wire: v1::Member) -> Result<Self, DecodeError> {
        Ok(Member {
            id: MemberId(wire.id),
            name: field::parsed(&wire.name, "name")?,
            address: wire.address,
            part: field::value::<v1::MemberPart, _>(wire.part, "part")?,
            since: Timestamp(wire.since_unix_ms),
        })
    }
}

same_variants! {
    MemberPart { Voter, Learner, Removed }
}
