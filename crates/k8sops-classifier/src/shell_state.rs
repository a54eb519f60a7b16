//! What flows between the commands of a line: texts, variables and functions.

use std::collections::BTreeMap;

use crate::{
    classification::{Classification, CommandClass, SensitiveOutput},
    printed_text::PrintedText,
    shell_syntax::CommandList,
    shell_variables::ShellVariables,
};

/// What a command reads or prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TextStream {
    pub(crate) text: PrintedText,
    /// How it may contain secret values, and whether it is a table without values.
    pub(crate) sensitive: Option<(SensitiveOutput, bool)>,
}

impl TextStream {
    pub(crate) const EMPTY: Self = Self { text: PrintedText::Nothing, sensitive: None };
    pub(crate) const UNKNOWN: Self = Self { text: PrintedText::UNKNOWN, sensitive: None };

    pub(crate) fn join(self, other: Self) -> Self {
        let sensitive = match (self.sensitive, other.sensitive) {
            (Some((output, is_table)), Some((other_output, is_other_table))) => {
                Some((output.max(other_output), is_table && is_other_table))
            }
            (sensitive, other_sensitive) => sensitive.or(other_sensitive),
        };
        Self { text: self.text.join(other.text), sensitive }
    }
}

/// The variables and functions at a place of the line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ShellState {
    pub(crate) variables: ShellVariables,
    pub(crate) functions: BTreeMap<String, CommandList>,
}

impl ShellState {
    /// Keeps what is true of both.
    pub(crate) fn join(&self, other: &Self) -> Self {
        let functions = self.functions.iter().filter(|(name, body)| other.functions.get(*name) == Some(*body));
        Self {
            variables: self.variables.join(&other.variables),
            functions: functions.map(|(name, body)| (name.clone(), body.clone())).collect(),
        }
    }
}

/// Joins a state that was reached on one way with those of other ways.
pub(crate) fn join_into(states: &mut Option<ShellState>, state: &ShellState) {
    *states = Some(match states.take() {
        None => state.clone(),
        Some(before) => before.join(state),
    });
}

/// What is known about a command.
pub(crate) struct CommandResult {
    pub(crate) class: CommandClass,
    /// What it prints.
    pub(crate) text: PrintedText,
}

impl CommandResult {
    pub(crate) fn read(reason: &str) -> Self {
        Self { class: Classification::read(reason).into(), text: PrintedText::Nothing }
    }
}

impl From<CommandClass> for CommandResult {
    fn from(class: CommandClass) -> Self {
        Self { class, text: PrintedText::UNKNOWN }
    }
}

impl From<Classification> for CommandResult {
    fn from(classification: Classification) -> Self {
        CommandClass::from(classification).into()
    }
}
