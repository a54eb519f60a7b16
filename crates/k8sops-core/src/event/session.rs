//! Events of the session itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::EventAuthor;
use crate::{
    ids::{CommandId, UserId},
    settings::SessionSettings,
};

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
