//! What an owner writes of the text of its open message, for watchers in other processes.

use crate::{
    ids::MessageId,
    preview::{MessagePreview, TextDelta},
    stream_position::OpenMessage,
};

/// What is to be written of a preview.
#[derive(Debug, Clone, PartialEq)]
pub struct PreviewUpdate {
    /// The open message.
    pub message: MessageId,
    /// What of its text is written.
    pub extent: PreviewExtent,
    /// The text, in order.
    pub pieces: Vec<MessagePreview>,
}

/// How much of the text of an open message a [`PreviewUpdate`] has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreviewExtent {
    /// All text so far. It replaces what was written before.
    Whole,
    /// The text after what was written before.
    Continuation,
}

/// How much of an open message was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PreviewPosition {
    message: Option<MessageId>,
    /// Bytes of its text.
    text: usize,
    /// Bytes of its reasoning.
    reasoning: usize,
}

impl PreviewPosition {
    /// The text of an open message that was not written yet; it counts as written from now on.
    pub(crate) fn advance_to(&mut self, open: &OpenMessage) -> Option<PreviewUpdate> {
        let extent = if self.message == Some(open.message_id) {
            PreviewExtent::Continuation
        } else {
            *self = Self { message: Some(open.message_id), ..Self::default() };
            PreviewExtent::Whole
        };
        let delta = |text: &str, offset: usize| {
            let content = text.get(offset..).filter(|rest| !rest.is_empty())?.to_owned();
            Some(TextDelta { message_id: open.message_id, run_id: open.run_id, offset, content })
        };
        let reasoning = delta(&open.reasoning, self.reasoning).map(MessagePreview::Reasoning);
        let text = delta(&open.text, self.text).map(MessagePreview::Token);
        self.reasoning = open.reasoning.len();
        self.text = open.text.len();
        let pieces: Vec<MessagePreview> = reasoning.into_iter().chain(text).collect();
        (!pieces.is_empty()).then_some(PreviewUpdate { message: open.message_id, extent, pieces })
    }
}
