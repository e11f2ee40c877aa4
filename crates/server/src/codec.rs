//! How this server writes commands and states down: as `proto` encodes them.

use manager::{Codec, CodecError};
use model::ReplicaTemplate;
use store::{Command, State};

#[derive(Clone, Copy, Debug, Default)]
pub struct WireCodec;

impl Codec for WireCodec {
    fn encode_command(&self, command: &Command) -> Vec<u8> {
        proto::codec::encode_command(command)
    }

    fn decode_command(&self, bytes: &[u8]) -> Result<Command, CodecError> {
        proto::codec::decode_command(bytes).map_err(|error| CodecError(error.to_string()))
    }

    fn encode_snapshot(&self, state: &State) -> Vec<u8> {
        proto::codec::encode_snapshot(state)
    }

    fn decode_snapshot(&self, bytes: &[u8]) -> Result<State, CodecError> {
        proto::codec::decode_snapshot(bytes).map_err(|error| CodecError(error.to_string()))
    }

    fn encode_template(&self, template: &ReplicaTemplate) -> Vec<u8> {
        proto::codec::encode_template(template)
    }
}
