//! How much of the open message a stream has sent, so that a cursor continues previews without gaps and repetitions.

use std::collections::VecDeque;

use crate::{
    event::{EventBody, SessionEvent},
    frame::{StreamFrame, TransientEvent},
    ids::{MessageId, RunId},
    preview::TextDelta,
};

/// The message that the model is writing now.
#[derive(Debug)]
pub(crate) struct OpenMessage {
    pub(crate) message_id: MessageId,
    pub(crate) run_id: RunId,
    pub(crate) text: String,
    pub(crate) reasoning: String,
}

/// What a stream has sent of the things that are not logged.
#[derive(Debug, Default, Clone)]
pub(crate) struct StreamPosition {
    /// A message, and how many bytes of its text and of its reasoning were sent.
    message: Option<(MessageId, usize, usize)>,
    /// The last message that was sent whole, and the last run whose end was sent. A cursor that reads the store can learn
    /// of a commit before the feed does; it must not show a preview of a message whose end it has shown.
    closed_message: Option<MessageId>,
    closed_run: Option<RunId>,
    /// The version of the tool progress that was sent.
    pub(crate) progress_version: u64,
    /// The number of the warning that was sent last.
    pub(crate) warnings: u64,
}

impl StreamPosition {
    /// Appends the deltas of an open message that were not sent yet; they count as sent from now on.
    pub(crate) fn advance_to(&mut self, open: &OpenMessage, frames: &mut VecDeque<StreamFrame>) {
        if self.closed_message == Some(open.message_id) || self.closed_run == Some(open.run_id) {
            return;
        }
        let (text_at, reasoning_at) = self.sent_bytes(open.message_id);
        let mut push_delta = |kind: DeltaKind, text: &str, at| {
            if let Some(delta) = kind.remaining_delta(open.run_id, open.message_id, text, at) {
                frames.push_back(delta);
            }
        };
        push_delta(DeltaKind::Reasoning, &open.reasoning, reasoning_at);
        push_delta(DeltaKind::Text, &open.text, text_at);
        self.message = Some((open.message_id, open.text.len(), open.reasoning.len()));
    }

    /// The deltas that complete the preview of a message before its `assistant_message` is sent.
    pub(crate) fn complete_preview(&self, event: &SessionEvent) -> impl Iterator<Item = StreamFrame> {
        let (EventBody::AssistantMessage(e), Some(run_id)) = (&event.body, event.run_id) else {
            return None.into_iter().chain(None);
        };
        let (text_at, reasoning_at) = self.sent_bytes(e.message_id);
        let reasoning = e
            .reasoning
            .as_ref()
            .and_then(|reasoning| DeltaKind::Reasoning.remaining_delta(run_id, e.message_id, reasoning, reasoning_at));
        let text = DeltaKind::Text.remaining_delta(run_id, e.message_id, &e.content, text_at);
        reasoning.into_iter().chain(text)
    }

    /// Forgets what was sent of messages and runs: after a loss of the store, an open run and its message may be ones whose end
    /// was sent.
    pub(crate) fn forget_messages(&mut self) {
        self.message = None;
        self.closed_message = None;
        self.closed_run = None;
    }

    /// Records that a logged event was sent.
    pub(crate) fn record_sent(&mut self, event: &SessionEvent) {
        match &event.body {
            EventBody::AssistantMessage(e) => self.closed_message = Some(e.message_id),
            body if body.ends_run() => self.closed_run = event.run_id,
            _ => {}
        }
    }

    /// Bytes of text and of reasoning of a message that were sent.
    fn sent_bytes(&self, message: MessageId) -> (usize, usize) {
        match self.message {
            Some((id, text, reasoning)) if id == message => (text, reasoning),
            _ => (0, 0),
        }
    }
}

/// The two texts of a message.
#[derive(Clone, Copy)]
enum DeltaKind {
    Text,
    Reasoning,
}

impl DeltaKind {
    /// The text after the first `at` bytes; `None` if nothing is left.
    fn remaining_delta(self, run_id: RunId, message_id: MessageId, text: &str, at: usize) -> Option<StreamFrame> {
        if at == text.len() {
            return None;
        }
        // An offset outside of the text means that the text was replaced: it is sent from its beginning.
        let (offset, rest) = text.get(at..).map_or((0, text), |rest| (at, rest));
        let delta = TextDelta { message_id, run_id, offset, content: rest.to_owned() };
        Some(StreamFrame::Transient(match self {
            Self::Text => TransientEvent::Token(delta),
            Self::Reasoning => TransientEvent::Reasoning(delta),
        }))
    }
}
