//! How commands and states are written down. The manager knows that they are, not how.

use model::{Level, ReplicaTemplate};
use store::{Command, State};

/// What is on disk cannot be read: damaged, or written by a newer version.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(pub String);

/// Explicit, versioned encodings. Whatever one version of wharf wrote, every later one reads.
pub trait Codec {
    fn encode_command(&self, command: &Command) -> Vec<u8>;
    fn decode_command(&self, bytes: &[u8]) -> Result<Command, CodecError>;
    fn encode_snapshot(&self, state: &State) -> Vec<u8>;
    fn decode_snapshot(&self, bytes: &[u8]) -> Result<State, CodecError>;
    /// The same template gives the same bytes, in every version: the content hash is made of them.
    fn encode_template(&self, template: &ReplicaTemplate) -> Vec<u8>;
    /// The level from which on this command can be decoded. Only tests know other commands than there are.
    fn needs(&self, command: &Command) -> Level {
        command.needs()
    }
}
