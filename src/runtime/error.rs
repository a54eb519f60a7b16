//! Errors of requests to sessions.

use k8sops_core::{ApprovalId, InputId, MessageId, SessionId, StoreError, ToolCallId};
use k8sops_models::InvalidSettings;
use k8sops_tools::{ArgumentMismatch, ElicitationMismatch};

/// Why a request to a session failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SessionsError {
    /// The user has no such session.
    #[error("there is no session {0}")]
    NotFound(SessionId),
    /// The user has the maximum number of sessions, and none may be deleted to make room.
    #[error(
        "all {0} sessions have a run in progress, wait for an answer, or were opened by an alert; delete one, or raise \
         MAX_SESSIONS"
    )]
    TooMany(usize),
    /// The settings are not valid.
    #[error(transparent)]
    Settings(#[from] InvalidSettings),
    /// The open run has no approval with this id.
    #[error("the session's run has no approval {0}; its run has ended, or it never existed")]
    ApprovalNotFound(ApprovalId),
    /// The approval is no longer pending.
    #[error("approval {0} was answered before, or has expired; see its approval_resolved event")]
    ApprovalClosed(ApprovalId),
    /// Another user must approve.
    #[error(
        "another user with the role approver must answer approvals of this session; pending approvals are listed by GET \
         /v1/approvals"
    )]
    ApproverRequired,
    /// The user has the maximum number of runs.
    #[error("{0} of your runs are in progress on this replica, which is the limit; try again when one has ended")]
    TooManyRuns(usize),
    /// The replica has the maximum number of runs.
    #[error("{0} runs are in progress on this replica, which is the limit; try again in a moment")]
    Overloaded(usize),
    /// The edited arguments do not match the tool's schema.
    #[error(transparent)]
    ArgumentMismatch(#[from] ArgumentMismatch),
    /// The values do not match the form of the question.
    #[error(transparent)]
    ElicitationMismatch(#[from] ElicitationMismatch),
    /// Arguments cannot be edited by an approver.
    #[error(
        "with TOOL_APPROVAL_BY=approver arguments cannot be edited, because the edited call would have been seen by one \
         person only; deny it, and say in the comment what to request instead"
    )]
    ArgumentsNotEditable,
    /// The open run has no question with this id.
    #[error("the session's run has no question {0}; its run has ended, or it never existed")]
    InputNotFound(InputId),
    /// The question is no longer pending.
    #[error("question {0} was answered before, has expired, or its call has ended; see its input_resolved event")]
    InputClosed(InputId),
    /// The conversation has no such reply.
    #[error(
        "there is no reply {0} in the conversation, or its turn is no longer kept; only replies of the agent can be rated"
    )]
    ReplyNotFound(MessageId),
    /// No output of this call is stored.
    #[error("no output of the tool call {0} is stored: the call does not exist, or newer outputs replaced its output")]
    OutputNotFound(ToolCallId),
    /// The output was stored, and is not any more.
    #[error(
        "the whole output of the tool call {call}, {bytes} bytes, is no longer stored: newer outputs replaced it, or it was \
         removed; its tool_end has the shortened form"
    )]
    OutputMissing {
        /// The tool call.
        call: ToolCallId,
        /// The size of the whole output.
        bytes: u64,
    },
    /// There is no such link to a session.
    #[error("there is no such link: it does not exist, has expired, or was revoked")]
    ShareNotFound,
    /// The whole preview of an approval is not stored any more.
    #[error("the whole preview of approval {0} is no longer stored; its approval_requested has the shortened form")]
    PreviewMissing(ApprovalId),
    /// The command is durable, but did not take effect within the time that a caller waits.
    #[error("the command was accepted and has not taken effect yet; read the session again in a moment")]
    Pending,
    /// The service is shutting down.
    #[error("the service is shutting down; try again in a moment")]
    Stopping,
    /// The store rejected or failed the request.
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
