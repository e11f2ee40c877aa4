//! A codec that writes nothing down: commands, states and templates are numbers of rows in a table.

use std::{cell::RefCell, rc::Rc};

use manager::{Codec, CodecError};
use model::{Level, ReplicaTemplate};
use store::{Command, State};

/// The annotation that makes the command of a service so many bytes long.
pub(crate) const BYTES: &str = "bytes";

/// The annotation that makes the command of a service one that older builds do not know.
pub(crate) const LEVEL: &str = "level";

/// Clones are the same table: what one member wrote, the others can read, as far as their builds know it.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    rows: Rc<RefCell<Rows>>,
    known: Level,
}

impl Default for Table {
    /// As the test reads it: whatever there is.
    fn default() -> Table {
        Table { rows: Rc::default(), known: Level(u32::MAX) }
    }
}

impl Table {
    pub(crate) fn of_build(&self, known: Level) -> Table {
        Table { rows: self.rows.clone(), known }
    }
}

#[derive(Debug, Default)]
struct Rows {
    commands: Vec<Command>,
    states: Vec<State>,
    templates: Vec<ReplicaTemplate>,
}

fn row(bytes: &[u8]) -> Result<usize, CodecError> {
    let number = bytes.first_chunk().map(|number| u64::from_le_bytes(*number) as usize);
    number.ok_or_else(|| CodecError(format!("{bytes:?} is no number of a row")))
}

fn push<T>(rows: &mut Vec<T>, new: T) -> Vec<u8> {
    rows.push(new);
    (rows.len() as u64 - 1).to_le_bytes().to_vec()
}

impl Codec for Table {
    fn encode_command(&self, command: &Command) -> Vec<u8> {
        let mut bytes = push(&mut self.rows.borrow_mut().commands, command.clone());
        if let Command::Apply(apply) = command
            && let Some(length) = apply.annotations.get(BYTES)
        {
            bytes.resize(length.parse().unwrap(), 0);
        }
        bytes
    }

    fn decode_command(&self, bytes: &[u8]) -> Result<Command, CodecError> {
        let row = row(bytes)?;
        let command = self.rows.borrow().commands.get(row).cloned();
        let command = command.ok_or_else(|| CodecError(format!("there is no row {row}")))?;
        let needs = match command {
            Command::Raise { .. } => Level(2),
            _ => self.needs(&command),
        };
        if needs > self.known { Err(CodecError(format!("it is of {needs}"))) } else { Ok(command) }
    }

    fn encode_snapshot(&self, state: &State) -> Vec<u8> {
        push(&mut self.rows.borrow_mut().states, state.clone())
    }

    fn decode_snapshot(&self, bytes: &[u8]) -> Result<State, CodecError> {
        let row = row(bytes)?;
        self.rows
            .borrow()
            .states
            .get(row)
            .cloned()
            .ok_or_else(|| CodecError(format!("there is no row {row}")))
    }

    fn encode_template(&self, template: &ReplicaTemplate) -> Vec<u8> {
        let templates = &mut self.rows.borrow_mut().templates;
        match templates.iter().position(|known| known == template) {
            Some(row) => (row as u64).to_le_bytes().to_vec(),
            None => push(templates, template.clone()),
        }
    }
    fn needs(&self, command: &Command) -> Level {
        let said = match command {
            Command::Apply(apply) => apply.annotations.get(LEVEL),
            _ => None,
        };
        said.map_or(command.needs(), |level| Level(level.parse().unwrap()))
    }
}
