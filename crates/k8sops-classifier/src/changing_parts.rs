//! The parts of a command line that may change something.

use crate::{program::KnownProgram, shell_word::ShellWord};

/// A program and its arguments; never empty.
pub(crate) type CommandWords = Vec<ShellWord>;

/// What of a line may change something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ChangingParts {
    /// In the order of the line.
    pub(crate) parts: Vec<LinePart>,
    /// A `||` decides whether one of the parts runs.
    pub(crate) has_alternatives: bool,
}

/// A part of a line that may change something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinePart {
    Command(LineCommand),
    /// It is not known what the part does.
    Unknown(String),
    /// It is not known what the part does, nor what the commands behind it mean: it may change variables, functions, the
    /// directory or the cluster.
    ChangedShell(String),
}

/// One command of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LineCommand {
    pub(crate) program: KnownProgram,
    /// The words behind the name of the program.
    pub(crate) words: Vec<ShellWord>,
    pub(crate) input: CommandInput,
}

/// What a command gets as its standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CommandInput {
    /// Nothing, or nothing that the line says.
    Nothing,
    Text(String),
    /// What these commands print, which only read.
    Printed(Vec<CommandWords>),
    Unknown,
}
