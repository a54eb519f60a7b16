//! Text of a message that the model is still writing. It is streamed and never logged.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    event::{EventBody, SessionEvent},
    ids::{MessageId, RunId},
};

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
        self.delta().message_id
    }

    /// Whether an event ends the message or its run, so that the text is void or has become the event.
    pub(crate) fn is_ended_by(&self, event: &SessionEvent) -> bool {
        let TextDelta { message_id, run_id, .. } = self.delta();
        match &event.body {
            EventBody::AssistantMessage(message) => message.message_id == *message_id,
            EventBody::RunRecovered(recovered) => recovered.superseded.contains(message_id),
            body => body.ends_run() && event.run_id == Some(*run_id),
        }
    }

    fn delta(&self) -> &TextDelta {
        let (Self::Token(delta) | Self::Reasoning(delta)) = self;
        delta
    }
}
