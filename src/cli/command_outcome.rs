//! The result of a command that checks something.

use std::process::ExitCode;

/// The result of a command that checks something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum CommandOutcome {
    /// Everything that was checked is in order.
    Passed,
    /// At least one check failed.
    Failed,
}

impl From<CommandOutcome> for ExitCode {
    fn from(outcome: CommandOutcome) -> Self {
        match outcome {
            CommandOutcome::Passed => Self::SUCCESS,
            CommandOutcome::Failed => Self::FAILURE,
        }
    }
}
