//! Events of the session itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::EventAuthor;
use crate::{CommandId, SessionSettings, UserId};

/// See [`EventBody::SessionCreated`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SessionCreated {
    /// Whose session it is.
    pub user_id: UserId,
    /// The title given at creation; absent: the first message makes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The settings it begins with.
    pub settings: SessionSettings,
    /// Who created it.
    #[schema(value_type = String)]
    pub by: EventAuthor,
}

/// See [`EventBody::SettingsChanged`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SettingsChanged {
    /// All settings as they are now.
    pub settings: SessionSettings,
    /// Who changed them.
    #[schema(value_type = String)]
    pub by: EventAuthor,
    /// The command that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
}

/// See [`EventBody::TitleChanged`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TitleChanged {
    /// The title as it is now.
    pub title: String,
    /// Who changed it; `system` when it was made from the first message.
    #[schema(value_type = String)]
    pub by: EventAuthor,
    /// The command that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
}
