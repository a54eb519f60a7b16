//! What clients of chat completions send. Fields that are not listed are ignored: clients send many, for many models.

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

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

/// The text of a message, and how many of its parts are none.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct MessageText {
    pub(super) text: String,
    pub(super) unread_parts: usize,
}

impl RequestMessage {
    /// Returns the text of the message.
    pub(super) fn text(&self) -> MessageText {
        let mut read = MessageText::default();
        match &self.content {
            Value::String(text) => read.text.clone_from(text),
            Value::Array(parts) => {
                for part in parts {
                    match part.as_str().or_else(|| part.get("text").and_then(Value::as_str)) {
                        Some(text) => {
                            if !read.text.is_empty() {
                                read.text.push('\n');
                            }
                            read.text.push_str(text);
                        }
                        None => read.unread_parts += 1,
                    }
                }
            }
            _ => {}
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_send_all_kinds_of_messages() {
        for (message, text, unread_parts) in [
            (r#"{"role": "user", "content": "hi"}"#, "hi", 0),
            (
                r#"{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}"#,
                "a\nb",
                0,
            ),
            (r#"{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}, "x"]}"#, "x", 1),
            (r#"{"role": "user", "content": [{"type": "input_text", "text": "a"}], "name": "anna"}"#, "a", 0),
            (r#"{"role": "assistant", "content": null, "tool_calls": []}"#, "", 0),
            (r#"{"role": "assistant"}"#, "", 0),
            (r#"{"role": "user", "content": {"text": "odd"}}"#, "", 0),
        ] {
            let message: RequestMessage = serde_json::from_str(message).unwrap();
            assert_eq!(message.text(), MessageText { text: text.to_owned(), unread_parts });
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
