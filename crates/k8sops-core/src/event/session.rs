//! Events of the session itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Actor;
use crate::{CommandId, Settings, UserId};

/// See [`EventBody::SessionCreated`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SessionCreated {
    /// Whose session it is.
    pub user_id: UserId,
    /// The title given at creation; absent: the first message makes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The settings it begins with.
    pub settings: Settings,
    /// Who created it.
    #[schema(value_type = String)]
    pub by: Actor,
}

/// See [`EventBody::SettingsChanged`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SettingsChanged {
    /// All settings as they are now.
    pub settings: Settings,
    /// Who changed them.
    #[schema(value_type = String)]
    pub by: Actor,
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
    pub by: Actor,
    /// The command that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
}
