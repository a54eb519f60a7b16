//! A run as text: what the model says is the answer, what it does is reasoning.

use std::collections::HashMap;

use k8sops_core::{
    ApprovalDecision, EventBody, MessageId, RunOutcome, StreamFrame, TokenUsage, ToolCallId, TransientEvent,
};

use crate::api::doors::{door_errors::OpenAiError, run_cursor::RunRest, waiting_interactions::compact_json};

/// How many characters of a call's arguments are shown.
const SHOWN_ARGUMENT_CHARS: usize = 200;

/// A piece of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ChatDelta {
    /// Part of the answer.
    Content(String),
    /// Part of what chat clients fold away.
    Reasoning(String),
}

/// Why a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FinishReason {
    Stop,
    Length,
}

impl FinishReason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// How a completion ends: with a last text, or with an error.
pub(super) type ChatEnd = Result<(Option<ChatDelta>, FinishReason), OpenAiError>;

/// Turns a run into text.
#[derive(Debug, Default)]
pub(super) struct ChatText {
    /// The message whose text came last, and how many bytes of it.
    text_of: Option<(MessageId, usize)>,
    reasoning_of: Option<MessageId>,
    has_content: bool,
    call_names: HashMap<ToolCallId, String>,
    /// Tokens of the model calls that were seen.
    pub(super) usage: TokenUsage,
}

impl ChatText {
    /// Returns what a frame adds.
    pub(super) fn add_frame(&mut self, frame: &StreamFrame) -> Option<ChatDelta> {
        match frame {
            StreamFrame::Event(event) => {
                if let Some(usage) = event.body.model_usage() {
                    self.usage += usage;
                }
                self.describe_event(&event.body).map(ChatDelta::Reasoning)
            }
            StreamFrame::Transient(TransientEvent::Token(delta)) => {
                let is_continued = self.text_of == Some((delta.message_id, delta.offset)) && delta.offset > 0;
                let gap = if is_continued || !self.has_content { "" } else { "\n\n" };
                self.text_of = Some((delta.message_id, delta.offset + delta.content.len()));
                self.has_content = true;
                Some(ChatDelta::Content(format!("{gap}{}", delta.content)))
            }
            StreamFrame::Transient(TransientEvent::Reasoning(delta)) => {
                let is_first = self.reasoning_of.is_none();
                let is_continued = self.reasoning_of == Some(delta.message_id);
                self.reasoning_of = Some(delta.message_id);
                let gap = if is_first || is_continued { "" } else { "\n\n" };
                Some(ChatDelta::Reasoning(format!("{gap}{}", delta.content)))
            }
            StreamFrame::Transient(TransientEvent::Warning(warning)) => {
                Some(ChatDelta::Reasoning(format!("\nNote: {}\n", warning.message)))
            }
            StreamFrame::Transient(_) => None,
        }
    }

    fn describe_event(&mut self, body: &EventBody) -> Option<String> {
        match body {
            EventBody::ToolStart(start) => {
                self.call_names.insert(start.tool_call_id.clone(), start.name.clone());
                let arguments: String = compact_json(&start.arguments).chars().take(SHOWN_ARGUMENT_CHARS).collect();
                Some(format!("\nCalling {} {arguments}\n", start.name))
            }
            EventBody::ToolEnd(end) => {
                let name = self.call_names.get(&end.tool_call_id).map_or("The call", String::as_str);
                Some(format!("{name}: {}, {} bytes, {} ms\n", end.status.as_str(), end.bytes, end.duration_ms))
            }
            EventBody::ApprovalResolved(resolved) => {
                let what = match resolved.decision {
                    ApprovalDecision::Approve => "Approved",
                    ApprovalDecision::Deny => "Denied",
                    ApprovalDecision::Expired => "Not answered in time",
                };
                Some(format!("\n{what} ({})\n", resolved.by))
            }
            EventBody::Warning(warning) => Some(format!("\nNote: {}\n", warning.message)),
            EventBody::RunRecovered(recovered) => {
                Some(format!("\nNote: the run continues after an interruption: {}\n", recovered.reason))
            }
            _ => None,
        }
    }

    /// Returns how the completion ends.
    pub(super) fn end(&mut self, rest: &RunRest) -> ChatEnd {
        match rest {
            RunRest::Finished(finished) => Ok(match finished.outcome {
                RunOutcome::Completed => (None, FinishReason::Stop),
                RunOutcome::Limit => (None, FinishReason::Length),
                RunOutcome::Cancelled => (Some(self.paragraph("*The run was cancelled.*")), FinishReason::Stop),
            }),
            RunRest::Waiting(waiting) => Ok((Some(self.paragraph(&waiting.describe())), FinishReason::Stop)),
            RunRest::Failed(failed) => Err(OpenAiError::new("server_error", &*failed.code, &*failed.message)),
            RunRest::Interrupted(why) => Err(OpenAiError::new("server_error", why.code(), why.message())),
        }
    }

    fn paragraph(&mut self, text: &str) -> ChatDelta {
        let gap = if self.has_content { "\n\n" } else { "" };
        self.has_content = true;
        ChatDelta::Content(format!("{gap}{text}"))
    }
}

#[cfg(test)]
mod tests {
    use k8sops_core::{RunId, TextDelta};

    use super::*;

    fn token(message_id: MessageId, offset: usize, content: &str) -> StreamFrame {
        let delta = TextDelta { message_id, run_id: RunId::new(), offset, content: content.to_owned() };
        StreamFrame::Transient(TransientEvent::Token(delta))
    }

    #[test]
    fn texts_of_several_messages_are_paragraphs() {
        let [first, second] = [MessageId::new(), MessageId::new()];
        let mut text = ChatText::default();
        let mut content = String::new();
        for frame in [
            token(first, 0, "I "),
            token(first, 2, "look."),
            token(second, 0, "All"),
            token(second, 3, " is well."),
            // A new attempt starts the same text again.
            token(second, 0, "All good."),
        ] {
            match text.add_frame(&frame) {
                Some(ChatDelta::Content(more)) => content.push_str(&more),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(content, "I look.\n\nAll is well.\n\nAll good.");
    }
}
