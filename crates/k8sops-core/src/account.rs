//! What changes of a user's sessions, for streams of the whole account.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    event::{EventBody, SessionEvent},
    ids::{ApprovalId, InputId, MessageId, RunId, SessionId, UserId},
    time::Timestamp,
};

/// Whose stream a change is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AccountTopic {
    /// The user of the sessions.
    User(UserId),
    /// Those who answer approvals in the sessions of others.
    Approvers,
}

/// Why a session is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeletionReason {
    /// Its user deleted it.
    Deleted,
    /// It made room for another session.
    Evicted,
}

/// The end of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionDeleted {
    /// The session.
    pub session_id: SessionId,
    /// The user whose session it was.
    pub user_id: UserId,
    /// Why it is gone.
    pub reason: DeletionReason,
    /// When it was deleted.
    pub ts: Timestamp,
}

/// A message that waits behind the run in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MessageQueued {
    /// The session.
    pub session_id: SessionId,
    /// The user of the session.
    pub user_id: UserId,
    /// The message.
    pub message_id: MessageId,
    /// The run that will answer it.
    pub run_id: RunId,
    /// When it was accepted.
    pub ts: Timestamp,
}

/// A change of a session.
#[derive(Debug, Clone)]
pub enum AccountChange {
    /// An event was logged that [`EventBody::concerns_account`].
    Logged {
        /// The user of the session.
        user: UserId,
        /// The event.
        event: Arc<SessionEvent>,
    },
    /// A session was deleted.
    Deleted(SessionDeleted),
    /// A message waits. It is not repeated after a reconnect: the status of the session says that a message waits.
    Queued(MessageQueued),
}

/// The first frame of a stream of an account, and what waits for its caller at that moment.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AccountHello {
    /// The version of the stream protocol.
    pub protocol: u32,
    /// The caller.
    pub user_id: UserId,
    /// From where a later stream continues.
    pub cursor: String,
    /// The approvals that the caller may answer.
    pub approvals: Vec<ApprovalId>,
    /// The questions that the caller may answer.
    pub inputs: Vec<InputId>,
}

/// The changes after a cursor are not known any more, or not all of them: read the lists again.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AccountGap {
    /// The cursor that the client sent; absent if changes were missed in the middle of a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested: Option<String>,
}

impl EventBody {
    /// Whether a stream of the account has the event: what a list of sessions and an inbox show.
    #[must_use]
    pub fn concerns_account(&self) -> bool {
        matches!(
            self,
            Self::SessionCreated(_)
                | Self::TitleChanged(_)
                | Self::RunStarted(_)
                | Self::RunFinished(_)
                | Self::RunFailed(_)
                | Self::ApprovalRequested(_)
                | Self::ApprovalResolved(_)
                | Self::InputRequested(_)
                | Self::InputResolved(_)
        )
    }

    /// Whether those who answer approvals in the sessions of others see the event.
    #[must_use]
    pub fn concerns_approvers(&self) -> bool {
        matches!(self, Self::ApprovalRequested(_) | Self::ApprovalResolved(_))
    }
}
