//! What a user thinks of a reply.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::EventAuthor;
use crate::ids::{CommandId, MessageId};

/// Whether a reply helped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FeedbackRating {
    /// The reply helped.
    Up,
    /// The reply did not help, or is wrong.
    Down,
}

impl FeedbackRating {
    /// The value in JSON and in metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// A user's rating of a reply. The newest one counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MessageFeedback {
    /// The reply.
    pub message_id: MessageId,
    /// The rating.
    pub rating: FeedbackRating,
    /// What the user says about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Who rated it: `user:<id>`.
    #[schema(value_type = String)]
    pub by: EventAuthor,
    /// The command that brought the rating.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
}
