//! What clients of AG-UI send. Fields that are not listed are ignored, tools of the client among them.

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::conversation::KnownMessage;
use crate::api::{doors::message_text::MessageText, problem::ProblemDetails};

/// A request for a run.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RunAgentInput {
    /// The client's thread, or the id of a session.
    pub(super) thread_id: String,
    /// The client's id of this run, which comes back in its events.
    pub(super) run_id: String,
    /// The conversation. Only a last message of the user is sent to the session, whose log has the rest.
    #[serde(default)]
    messages: Vec<InputMessage>,
    /// `1.0`, from clients of that version on.
    #[serde(default)]
    protocol_version: Option<String>,
    /// Answers to the interrupts of the run before.
    #[serde(default)]
    resume: Option<Vec<ResumeEntry>>,
}

/// A message of the conversation.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AgUiMessage)]
struct InputMessage {
    /// The client's id of the message. The same id is the same message.
    #[serde(default)]
    id: Option<String>,
    /// `user`, `assistant`, `tool`, `system`, `developer` or `reasoning`.
    #[serde(default)]
    role: String,
    /// A text, or a list of parts of which the texts are read.
    #[serde(default)]
    #[schema(value_type = Value)]
    content: Value,
}

/// An answer to an interrupt.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResumeEntry {
    /// The id of the interrupt.
    pub(super) interrupt_id: String,
    /// Whether the user answered.
    pub(super) status: ResumeStatus,
    /// The answer, as `responseSchema` of the interrupt says.
    #[serde(default)]
    #[schema(value_type = Value)]
    pub(super) payload: Option<Value>,
}

/// Whether the user answered an interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ResumeStatus {
    /// The user answered.
    Resolved,
    /// The user turned away from the question.
    Cancelled,
}

/// The generation of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientGeneration {
    /// Before version 1.0: fails on the outcome `cancelled`, and may know no interrupts.
    BeforeVersion1,
    /// Version 1.0 or later.
    Version1,
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum InputRequest {
    /// A new message, with the client's id of it.
    Message { id: Option<String>, text: String },
    /// Answers to interrupts.
    Resume,
    /// Nothing but what is there.
    Attach,
}

/// Said of a message that has nothing that is read.
const NO_TEXT: &str = "the last message has no text: its `content` must be a text, or a list of parts of which those like \
    {\"type\": \"text\", \"text\": \"…\"} are read; send no message to attach to the run in progress";

impl RunAgentInput {
    pub(super) fn generation(&self) -> ClientGeneration {
        if self.protocol_version.is_some() { ClientGeneration::Version1 } else { ClientGeneration::BeforeVersion1 }
    }

    /// Returns the answers to interrupts.
    pub(super) fn answers(&self) -> &[ResumeEntry] {
        self.resume.as_deref().unwrap_or_default()
    }

    /// Returns what the client asks for.
    pub(super) fn request(&self) -> Result<InputRequest, ProblemDetails> {
        if !self.answers().is_empty() {
            return Ok(InputRequest::Resume);
        }
        let Some(message) = self.messages.last().filter(|message| message.role == "user") else {
            return Ok(InputRequest::Attach);
        };
        let read = MessageText::from_content(&message.content);
        match (read.text.trim().is_empty(), read.unread_parts) {
            (true, 0) => Ok(InputRequest::Attach),
            (true, _) => Err(ProblemDetails::invalid(NO_TEXT)),
            (false, _) => Ok(InputRequest::Message { id: message.id.clone(), text: read.with_note() }),
        }
    }

    /// Returns the messages with a text that the client has, in its order.
    pub(super) fn known_messages(&self) -> impl Iterator<Item = KnownMessage<'_>> {
        self.messages.iter().filter_map(|message| {
            let text = MessageText::from_content(&message.content).text;
            Some(KnownMessage { id: message.id.as_deref()?, role: &message.role, text })
        })
    }

    /// Returns the client's ids of the messages of the user.
    pub(super) fn user_message_ids(&self) -> impl Iterator<Item = &str> {
        let of_user = self.messages.iter().filter(|message| message.role == "user");
        of_user.filter_map(|message| message.id.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_message_of_the_user_is_the_request() {
        let request = |fields: &str| {
            let text = format!(r#"{{"threadId": "t", "runId": "r", "state": {{}}, "tools": [], {fields}}}"#);
            serde_json::from_str::<RunAgentInput>(&text).unwrap().request().ok()
        };
        let message = |id: Option<&str>, text: &str| {
            Some(InputRequest::Message { id: id.map(str::to_owned), text: text.to_owned() })
        };
        for (fields, expected) in [
            (r#""messages": [{"id": "1", "role": "user", "content": "hi"}]"#, message(Some("1"), "hi")),
            (
                r#""messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image", "source": {}}]}]"#,
                message(None, "a\n\n(Attached parts that are no text and were not passed on: 1)"),
            ),
            (r#""messages": [{"role": "user", "content": ""}]"#, Some(InputRequest::Attach)),
            (r#""messages": [{"role": "user"}]"#, Some(InputRequest::Attach)),
            (r#""messages": [{"role": "user", "content": {"text": "hi"}}]"#, None),
            (r#""messages": [{"role": "user", "content": [{"type": "binary", "mimeType": "image/png"}]}]"#, None),
            (r#""messages": [{"role": "user", "content": 5}]"#, None),
            (r#""messages": []"#, Some(InputRequest::Attach)),
            (
                r#""messages": [{"id": "1", "role": "user", "content": "hi"}, {"role": "assistant"}]"#,
                Some(InputRequest::Attach),
            ),
            (
                r#""messages": [{"role": "user", "content": "hi"}], "resume": [{"interruptId": "i", "status": "resolved"}]"#,
                Some(InputRequest::Resume),
            ),
            (r#""messages": [{"role": "user", "content": "hi"}], "resume": []"#, message(None, "hi")),
        ] {
            assert_eq!(request(fields), expected, "{fields}");
        }
    }
}
