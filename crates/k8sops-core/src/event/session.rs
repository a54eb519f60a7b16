//! Events of the session itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::EventAuthor;
use crate::{
    ids::{CommandId, UserId},
    lineage::LostToolCall,
    settings::SessionSettings,
};

/// What a session was opened for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionOrigin {
    /// A user opened it.
    #[default]
    User,
    /// An alert opened it. It is never deleted to make room for another session.
    Alert,
}

impl SessionOrigin {
    /// Whether it is the default, which is not written.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde needs")]
    pub(crate) fn is_user(&self) -> bool {
        *self == Self::User
    }
}

/// The creation of a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SessionCreated {
    /// The user who owns the session.
    pub user_id: UserId,
    /// The title that was given at creation; absent: the title is derived from the first message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The initial settings.
    pub settings: SessionSettings,
    /// Who created the session: `user:<id>` or `system`.
    #[schema(value_type = String)]
    pub by: EventAuthor,
    /// What the session was opened for; absent: `user`.
    #[serde(default, skip_serializing_if = "SessionOrigin::is_user")]
    pub origin: SessionOrigin,
}

/// A change of settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SettingsChanged {
    /// All settings after the change.
    pub settings: SessionSettings,
    /// Who changed them: `user:<id>` or `system`.
    #[schema(value_type = String)]
    pub by: EventAuthor,
    /// The command that requested the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
}

/// A change of the title.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TitleChanged {
    /// The new title.
    pub title: String,
    /// Who changed it: `user:<id>`, or `system` if it was derived from the first message.
    #[schema(value_type = String)]
    pub by: EventAuthor,
    /// The command that requested the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
}

/// A loss of the store: events that it had acknowledged are gone. The seqs from `from_seq` to the one of this event are
/// never used again, so that no seq means two things.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LogTruncated {
    /// The first seq that is lost: the one after the newest event that the store still had.
    pub from_seq: u64,
    /// The number of events that are known to be lost. 0 after a failover or a restart of the
    /// store of which no process has seen a loss.
    pub lost: u64,
    /// Calls that may have changed something, were sent, and whose records are lost. If the run makes such a call again, it
    /// ends as `unknown`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost_calls: Vec<LostToolCall>,
}
