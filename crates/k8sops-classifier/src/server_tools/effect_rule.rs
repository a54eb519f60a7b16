//! Rows of the tables of tools.

use serde_json::{Map, Value};

use crate::classification::{Classification, SensitiveOutput};

/// What a tool does.
#[derive(Clone, Copy)]
pub(super) enum EffectRule {
    /// It only reads; its output may contain secret values in this form.
    Reads(Option<SensitiveOutput>),
    /// It changes something, as the text says.
    Writes(&'static str),
    /// It changes the state of the server's process, as the text says, and so what the calls of others do.
    ChangesServerState(&'static str),
    /// The arguments decide. The function gets only arguments that the table lists.
    DependsOnArguments(fn(&Map<String, Value>) -> Classification),
}

/// A tool: its name, what it does, and its arguments as words separated by spaces. `key` accepts a number or a single word,
/// `key*` accepts any value.
pub(super) type ServerTool = (&'static str, EffectRule, &'static [&'static str]);
