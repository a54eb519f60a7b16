//! Text of a message that the model is still writing. It is streamed and never logged.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::{MessageId, RunId};

/// More text of a message that the model is still writing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TextDelta {
    /// The message; its `assistant_message` has the same id.
    pub message_id: MessageId,
    /// The run that the message belongs to.
    pub run_id: RunId,
    /// Bytes of UTF-8 text before this delta. `offset: 0` starts a new text; any other value appends.
    pub offset: usize,
    /// The text of this delta.
    pub content: String,
}

/// A chunk of the preview of an open message, as the store carries it between processes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum MessagePreview {
    /// Text of the open message.
    Token(TextDelta),
    /// Reasoning of the open message.
    Reasoning(TextDelta),
}

impl MessagePreview {
    /// The message that the chunk belongs to.
    #[must_use]
    pub fn message_id(&self) -> MessageId {
        let (Self::Token(delta) | Self::Reasoning(delta)) = self;
        delta.message_id
    }
}
