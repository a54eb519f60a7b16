//! What clients of chat completions send. Fields that are not listed are ignored: clients send many, for many models.

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::doors::message_text::MessageText;

/// A request for a chat completion.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct ChatCompletionRequest {
    /// `k8sops`, also behind the name of a provider and a slash.
    #[serde(default)]
    pub(super) model: Option<String>,
    /// The conversation. The last message of the user is sent to the session; the messages before it find the session if no
    /// thread is named. System messages are ignored.
    #[serde(default)]
    pub(super) messages: Vec<RequestMessage>,
    /// Whether the response is a stream of chunks.
    #[serde(default)]
    pub(super) stream: Option<bool>,
    /// Options of the stream.
    #[serde(default)]
    pub(super) stream_options: Option<StreamOptions>,
}

/// A message of the conversation.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ChatRequestMessage)]
pub(in crate::api::doors) struct RequestMessage {
    /// `user`, `assistant`, `system`, `developer` or `tool`.
    #[serde(default)]
    pub(in crate::api::doors) role: String,
    /// A text, or a list of parts of which those of the type `text` are read.
    #[serde(default)]
    #[schema(value_type = Value)]
    content: Value,
}

/// Options of a stream.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct StreamOptions {
    /// Whether a last chunk has the usage.
    #[serde(default)]
    pub(super) include_usage: Option<bool>,
}

impl RequestMessage {
    /// Returns the text of the message.
    pub(super) fn text(&self) -> MessageText {
        MessageText::from_content(&self.content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_send_all_kinds_of_messages() {
        for (message, text) in [
            (r#"{"role": "user", "content": "hi"}"#, "hi"),
            (r#"{"role": "user", "content": [{"type": "input_text", "text": "a"}], "name": "anna"}"#, "a"),
            (r#"{"role": "assistant", "content": null, "tool_calls": []}"#, ""),
            (r#"{"role": "assistant"}"#, ""),
        ] {
            let message: RequestMessage = serde_json::from_str(message).unwrap();
            assert_eq!(message.text().text, text);
        }
    }

    #[test]
    fn unknown_fields_and_nulls_are_ignored() {
        let text = r#"{"model": "k8sops", "messages": [], "stream": null, "stream_options": null, "tools": [{"a": 1}],
            "temperature": 0.2, "max_completion_tokens": 5, "response_format": {"type": "text"}, "chat_id": "x"}"#;
        let request: ChatCompletionRequest = serde_json::from_str(text).unwrap();
        assert!(request.stream.is_none() && request.stream_options.is_none());
    }
}
