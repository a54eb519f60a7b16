//! How a question ended.

use std::process::ExitCode;

/// The codes with which a run fails at a budget.
const BUDGET_CODES: [&str; 3] = ["budget_turn", "budget_session", "budget_user_day"];
/// The codes with which the service rejects what is beyond a limit of the user, or of its own.
const QUOTA_CODES: [&str; 5] = ["too_many_requests", "too_many_runs", "too_many_streams", "inbox_full", "overloaded"];

/// How a question ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AskOutcome {
    /// The model gave its answer.
    Answered,
    /// The run failed, or its message was not accepted.
    Failed,
    /// The question cannot be asked as it is.
    WrongUsage,
    /// A call waits for an approval, or an MCP server for an answer.
    Waiting,
    /// A limit of the run or the user was reached.
    LimitReached,
    /// The user pressed Ctrl-C.
    Cancelled,
}

impl AskOutcome {
    /// Returns the outcome of a run that failed with this code.
    pub(super) fn of_failed_run(code: &str) -> Self {
        if BUDGET_CODES.contains(&code) { Self::LimitReached } else { Self::Failed }
    }

    /// Returns the outcome of a request that the service rejected with this code.
    pub(super) fn of_rejection(code: &str) -> Self {
        match code {
            code if QUOTA_CODES.contains(&code) => Self::LimitReached,
            "message_too_long" | "payload_too_large" | "session_not_found" | "invalid_request" => Self::WrongUsage,
            _ => Self::Failed,
        }
    }
}

impl From<AskOutcome> for ExitCode {
    fn from(outcome: AskOutcome) -> Self {
        Self::from(match outcome {
            AskOutcome::Answered => 0,
            AskOutcome::Failed => 1,
            AskOutcome::WrongUsage => 2,
            AskOutcome::Waiting => 3,
            AskOutcome::LimitReached => 4,
            // 128 and the number of SIGINT, as for a command that the signal ends.
            AskOutcome::Cancelled => 130,
        })
    }
}
