//! The server's codec, with room for a deliberate bug between the log and the state. That of an older build does not know
//! what a newer one may write.

use std::cell::RefCell;

use manager::{Codec, CodecError};
use model::{Level, ReplicaTemplate};
use server::codec::WireCodec;
use store::{Command, State};

use crate::bug::Bug;

#[derive(Debug)]
pub(crate) struct SimCodec {
    swaps: bool,
    known: Level,
    held_back: RefCell<Option<Command>>,
}

impl SimCodec {
    pub(crate) fn new(bug: Option<Bug>, known: Level) -> SimCodec {
        SimCodec { swaps: bug == Some(Bug::SwapEntries), known, held_back: RefCell::default() }
    }

    fn check_knows(&self, level: Level) -> Result<(), CodecError> {
        let is_known = level <= self.known;
        is_known.then_some(()).ok_or_else(|| CodecError(format!("this build does not know {level}")))
    }
}

impl Codec for SimCodec {
    fn encode_command(&self, command: &Command) -> Vec<u8> {
        WireCodec.encode_command(command)
    }

    fn decode_command(&self, bytes: &[u8]) -> Result<Command, CodecError> {
        let command = WireCodec.decode_command(bytes)?;
        self.check_knows(match &command {
            Command::Raise { to } => *to,
            command => command.needs(),
        })?;
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
        let state = WireCodec.decode_snapshot(bytes)?;
        self.check_knows(state.level())?;
        Ok(state)
    }

    fn encode_template(&self, template: &ReplicaTemplate) -> Vec<u8> {
        WireCodec.encode_template(template)
    }
}
