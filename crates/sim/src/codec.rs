//! The server's codec, with room for a deliberate bug between the log and the state.

use std::cell::RefCell;

use manager::{Codec, CodecError};
use model::ReplicaTemplate;
use server::codec::WireCodec;
use store::{Command, State};

use crate::bug::Bug;

#[derive(Debug)]
pub(crate) struct SimCodec {
    swaps: bool,
    held_back: RefCell<Option<Command>>,
}

impl SimCodec {
    pub(crate) fn new(bug: Option<Bug>) -> SimCodec {
        SimCodec { swaps: bug == Some(Bug::SwapEntries), held_back: RefCell::default() }
    }
}

impl Codec for SimCodec {
    fn encode_command(&self, command: &Command) -> Vec<u8> {
        WireCodec.encode_command(command)
    }

    fn decode_command(&self, bytes: &[u8]) -> Result<Command, CodecError> {
        let command = WireCodec.decode_command(bytes)?;
        if !self.swaps {
            return Ok(command);
        }
        // The one before in its place: from the second on, everything is applied one entry too late.
        let before = self.held_back.replace(Some(command.clone()));
        Ok(before.unwrap_or(command))
    }

    fn encode_snapshot(&self, state: &State) -> Vec<u8> {
        WireCodec.encode_snapshot(state)
    }

    fn decode_snapshot(&self, bytes: &[u8]) -> Result<State, CodecError> {
        WireCodec.decode_snapshot(bytes)
    }

    fn encode_template(&self, template: &ReplicaTemplate) -> Vec<u8> {
        WireCodec.encode_template(template)
    }
}
