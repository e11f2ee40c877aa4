//! Whatever is encoded decodes to the same value, and whatever is decoded is refused or understood, never a panic.

use std::fmt::Debug;

use model::{Directory, DirectoryNews, ReplicaTemplate};
use proptest::{prelude::*, sample::Index};
use prost::Message;

use crate::{
    DecodeError, codec, directory,
    strategies::{
        agent_says, assignments, command, directory_news, dispatch, event, node, observed, reached_state,
        replica, revision, service, spec, state, template, waiting_on,
    },
    v1,
};

/// Through bytes, so that what protobuf itself cannot tell apart is seen too.
fn survives<M, W>(value: M) -> Result<(), TestCaseError>
where
    M: TryFrom<W, Error = DecodeError> + PartialEq + Debug,
    W: for<'a> From<&'a M> + Message + Default,
{
    let bytes = W::from(&value).encode_to_vec();
    let decoded = W::decode(bytes.as_slice()).map_err(DecodeError::from).and_then(M::try_from);
    prop_assert_eq!(decoded, Ok(value));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn specs_survive(spec in spec()) {
        survives::<_, v1::ServiceSpec>(spec)?;
    }

    #[test]
    fn objects_survive(service in service(), revision in revision(), replica in replica(), node in node()) {
        survives::<_, v1::Service>(service)?;
        survives::<_, v1::Revision>(revision)?;
        survives::<_, v1::Replica>(replica)?;
        survives::<_, v1::Node>(node)?;
    }

    #[test]
    fn what_is_told_survives(event in event(), waiting_on in waiting_on(), observed in observed()) {
        survives::<_, v1::Event>(event)?;
        survives::<_, v1::WaitingOn>(waiting_on)?;
        survives::<_, v1::Observed>(observed)?;
    }

    #[test]
    fn dispatches_survive(dispatch in dispatch()) {
        survives::<_, v1::Dispatch>(dispatch)?;
    }

    #[test]
    fn directories_survive(news in directory_news()) {
        if let DirectoryNews::Full { nodes, .. } = &news {
            let remembered = Directory::remembered(nodes.clone());
            let read = directory::decode_directory(&directory::encode_directory(&remembered));
            prop_assert_eq!(read, Ok(remembered));
        }
        survives::<_, v1::Directory>(news)?;
    }

    #[test]
    fn what_agents_say_survives(says in agent_says()) {
        survives::<_, v1::AgentMessage>(says)?;
    }

    #[test]
    fn commands_survive(command in command()) {
        prop_assert_eq!(codec::decode_command(&codec::encode_command(&command)), Ok(command));
    }

    #[test]
    fn assignments_survive(assignments in assignments()) {
        let bytes = codec::encode_assignments(&assignments);
        prop_assert_eq!(codec::decode_assignments(&bytes), Ok(assignments));
    }

    #[test]
    fn snapshots_survive(state in state()) {
        let bytes = codec::encode_snapshot(&state);
        prop_assert_eq!(codec::decode_snapshot(&bytes), Ok(state));
    }

    /// With all that the state derives from its objects: a server that reads a snapshot must go on as the others do.
    #[test]
    fn snapshots_of_states_that_commands_reached_survive(state in reached_state()) {
        let bytes = codec::encode_snapshot(&state);
        prop_assert_eq!(codec::decode_snapshot(&bytes), Ok(state));
    }

    /// Or else a revision would have another hash after it was stored or sent.
    #[test]
    fn a_template_that_was_read_has_the_canonical_bytes_that_it_was_written_with(template in template()) {
        let bytes = codec::encode_template(&template);
        let read: ReplicaTemplate = v1::ReplicaTemplate::decode(&bytes[1..]).unwrap().try_into().unwrap();
        prop_assert_eq!(codec::encode_template(&read), bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn a_snapshot_that_is_cut_anywhere_is_refused(state in state(), at: Index) {
        let bytes = codec::encode_snapshot(&state);
        prop_assert!(codec::decode_snapshot(&bytes[..at.index(bytes.len())]).is_err());
    }

    #[test]
    fn damaged_bytes_are_refused_or_mean_something(
        command in command(),
        state in state(),
        assignments in assignments(),
        damage in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..4),
        cut: Index,
    ) {
        let damaged = |mut bytes: Vec<u8>| {
            bytes.truncate(cut.index(bytes.len()) + 1);
            for (at, byte) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            bytes
        };
        if let Ok(command) = codec::decode_command(&damaged(codec::encode_command(&command))) {
            prop_assert_eq!(codec::decode_command(&codec::encode_command(&command)), Ok(command));
        }
        if let Ok(state) = codec::decode_snapshot(&damaged(codec::encode_snapshot(&state))) {
            prop_assert_eq!(codec::decode_snapshot(&codec::encode_snapshot(&state)), Ok(state));
        }
        if let Ok(assignments) = codec::decode_assignments(&damaged(codec::encode_assignments(&assignments))) {
            let bytes = codec::encode_assignments(&assignments);
            prop_assert_eq!(codec::decode_assignments(&bytes), Ok(assignments));
        }
    }

    #[test]
    fn noise_is_refused_or_means_something(mut bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Some(format) = bytes.first_mut() {
            *format = codec::FORMAT;
        }
        // None of these may panic; most of the noise is refused.
        let _ = codec::decode_command(&bytes);
        let _ = codec::decode_snapshot(&bytes);
        let _ = codec::decode_assignments(&bytes);
    }
}
