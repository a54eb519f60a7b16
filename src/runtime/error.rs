//! Why a request to a session was not done.

use k8sops_core::{ApprovalId, InputId, SessionId, StoreError, ToolCallId};
use k8sops_models::InvalidSettings;

/// Why a request to a session was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SessionsError {
    /// The user has no such session.
    #[error("there is no session {0}")]
    NotFound(SessionId),
    /// The user has as many sessions as allowed, and all are busy.
    #[error("all {0} sessions have a run in progress; cancel one or delete one, or raise MAX_SESSIONS")]
    TooMany(usize),
    /// The settings would be of no use.
    #[error(transparent)]
    Settings(#[from] InvalidSettings),
    /// No approval of this id belongs to the run in progress.
    #[error("the session's run has no approval {0}; its run has ended, or it never was")]
    ApprovalNotFound(ApprovalId),
    /// The approval waits for no answer any more.
    #[error("approval {0} was answered before, or has expired; see its approval_resolved event")]
    ApprovalClosed(ApprovalId),
    /// Approvals are somebody else's to give.
    #[error(
        "approvals are given by somebody else with the role approver, not by the session's own user; who has it finds \
         what waits in GET /v1/approvals"
    )]
    ApproverRequired,
    /// The user has as many runs as one may have.
    #[error("{0} of your runs are in progress on this replica, which is the limit; try again when one has ended")]
    TooManyRuns(usize),
    /// The process has as many runs as it may have.
    #[error("{0} runs are in progress on this replica, which is the limit; try again in a moment")]
    Overloaded(usize),
    /// The edited arguments do not fit the tool, or the values do not fit the question.
    #[error("{0}")]
    DoesNotFit(String),
    /// No question of this id belongs to the run in progress.
    #[error("the session's run has no question {0}; its run has ended, or it never was")]
    InputNotFound(InputId),
    /// The question waits for no answer any more.
    #[error("question {0} was answered before, has expired, or its call has ended; see its input_resolved event")]
    InputClosed(InputId),
    /// No output of such a call is kept.
    #[error("no output of the tool call {0} is kept: there is no such call, or newer outputs have taken its room")]
    OutputNotFound(ToolCallId),
    /// The command is durable and will be done, but was not within the time that a caller waits.
    #[error("the command was accepted and is not done yet; look at the session again in a moment")]
    Pending,
    /// The service is stopping.
    #[error("the service is stopping; try again in a moment")]
    Stopping,
    /// The store said no.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for SessionsError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(session) => Self::NotFound(session),
            error => Self::Store(error),
        }
    }
}
