//! What clients send to start or continue a task. Unknown fields are ignored, and names in snake case are read, too.

use k8sops_core::CommandId;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{
    a2a_error::{A2aError, A2aErrorKind},
    proto_json::{read_bool, read_int32},
    push_config_body::PushConfigRequest,
    task_query::HistoryLength,
};

/// How the ids of commands begin that hold the id of a client's message.
const COMMAND_PREFIX: &str = "a2a-";

/// A message, and how it is answered.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = A2aSendMessageRequest)]
pub(super) struct SendMessageRequest {
    #[serde(default)]
    message: Option<ClientMessage>,
    #[serde(default)]
    configuration: Option<SendConfiguration>,
}

/// A message of a client.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[schema(as = A2aClientMessage)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClientMessage {
    /// The client's id of the message: the same id in the same context is the same message.
    #[serde(default, alias = "message_id")]
    message_id: Option<String>,
    /// The context: a name that the client chooses, the context of a task, or the id of a session. Without it, the message begins a
    /// new one.
    #[serde(default, alias = "context_id")]
    context_id: Option<String>,
    /// The task that waits for this message. Without it, the message begins a new task.
    #[serde(default, alias = "task_id")]
    task_id: Option<String>,
    /// `ROLE_USER`.
    #[serde(default)]
    #[schema(value_type = String)]
    role: Option<Value>,
    /// Parts with `text` or `data`. Files are not supported.
    #[serde(default)]
    parts: Option<Vec<ClientPart>>,
    /// By the URI of an extension, what it says.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub(super) metadata: Option<Map<String, Value>>,
    /// The extensions that the message uses.
    #[serde(default)]
    pub(super) extensions: Option<Vec<String>>,
}

/// A part of a message.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[schema(as = A2aClientPart)]
struct ClientPart {
    /// Text.
    #[serde(default)]
    text: Option<String>,
    /// A JSON value.
    #[serde(default)]
    #[schema(value_type = Value)]
    data: Option<Value>,
    /// A file: not supported.
    #[serde(default)]
    #[schema(value_type = Value)]
    raw: Option<Value>,
    /// The address of a file: not supported.
    #[serde(default)]
    #[schema(value_type = Value)]
    url: Option<Value>,
}

/// How a message is answered.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = A2aSendConfiguration)]
#[serde(rename_all = "camelCase")]
struct SendConfiguration {
    /// Whether the task is returned at once. If not, the answer comes when the task has ended or waits for input.
    #[serde(default, alias = "return_immediately", deserialize_with = "read_bool")]
    return_immediately: Option<bool>,
    /// How many messages the history of the task has at most; absent: all.
    #[serde(default, alias = "history_length", deserialize_with = "read_int32")]
    history_length: Option<i32>,
    /// Where what becomes of the task is posted.
    #[serde(default, alias = "task_push_notification_config")]
    task_push_notification_config: Option<PushConfigRequest>,
}

/// When a task is returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerTime {
    /// When it has ended or waits for input.
    AtRest,
    /// At once.
    Immediately,
}

/// A message that is valid.
#[derive(Debug, Clone)]
pub(super) struct TaskMessage {
    /// The client's id of the message.
    pub(super) id: String,
    pub(super) text: String,
    pub(super) context: Option<String>,
    pub(super) task: Option<String>,
    /// The message as it came, for extensions.
    pub(super) source: ClientMessage,
}

impl SendMessageRequest {
    pub(super) fn answer_time(&self) -> AnswerTime {
        let is_immediate = self.configuration.as_ref().and_then(|wanted| wanted.return_immediately) == Some(true);
        if is_immediate { AnswerTime::Immediately } else { AnswerTime::AtRest }
    }

    /// Returns how much history the answer has.
    ///
    /// # Errors
    /// The number is negative.
    pub(super) fn history_length(&self) -> Result<HistoryLength, A2aError> {
        HistoryLength::new(self.configuration.as_ref().and_then(|wanted| wanted.history_length))
    }

    /// Takes out where what becomes of the task is posted.
    pub(super) fn take_push_config(&mut self) -> Option<PushConfigRequest> {
        self.configuration.as_mut()?.task_push_notification_config.take()
    }

    /// Returns the message.
    ///
    /// # Errors
    /// Something that is needed is missing, or something that is there is not supported.
    pub(super) fn into_message(self) -> Result<TaskMessage, A2aError> {
        let Some(source) = self.message else { return Err(A2aError::invalid_field("message", "message is missing")) };
        let text = read_text(source.parts.as_deref().unwrap_or_default())?;
        let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
        let Some(id) = named(&source.message_id) else {
            return Err(A2aError::invalid_field("message.messageId", "message.messageId is missing"));
        };
        if !matches!(&source.role, Some(role) if *role == "ROLE_USER" || *role == 1) {
            return Err(A2aError::invalid_field("message.role", "message.role must be ROLE_USER"));
        }
        Ok(TaskMessage { id, text, context: named(&source.context_id), task: named(&source.task_id), source })
    }
}

fn read_text(parts: &[ClientPart]) -> Result<String, A2aError> {
    let mut texts = Vec::new();
    for part in parts {
        match part {
            ClientPart { raw: Some(_), .. } | ClientPart { url: Some(_), .. } => {
                return Err(A2aError::new(
                    A2aErrorKind::ContentTypeNotSupported,
                    "files are not supported; send parts with text or data",
                ));
            }
            ClientPart { text: Some(text), .. } => texts.push(text.clone()),
            ClientPart { data: Some(data), .. } => texts.push(data.to_string()),
            _ => return Err(A2aError::invalid_field("message.parts", "a part has neither text nor data")),
        }
    }
    let text = texts.join("\n\n");
    if text.trim().is_empty() {
        return Err(A2aError::invalid_field("message.parts", "message.parts must have text"));
    }
    Ok(text)
}

/// Returns the id of the command that brings a message: the same message is the same command. It holds the client's id if that is
/// possible, so that the log has it.
pub(super) fn message_command_id(message_id: &str) -> Option<CommandId> {
    let readable = format!("{COMMAND_PREFIX}{message_id}").parse().ok();
    readable.or_else(|| {
        let digest = Sha256::digest(message_id.as_bytes());
        format!("{COMMAND_PREFIX}sha256:{}", data_encoding::HEXLOWER.encode(&digest)).parse().ok()
    })
}

/// Returns the client's id of the message that a command brought, if the id of the command holds it.
pub(super) fn client_message_id(command: &CommandId) -> Option<&str> {
    command.as_str().strip_prefix(COMMAND_PREFIX).filter(|id| !id.starts_with("sha256:"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(request: Value) -> Result<TaskMessage, A2aError> {
        serde_json::from_value::<SendMessageRequest>(request).unwrap().into_message()
    }

    #[test]
    fn message_has_text_from_its_parts() {
        let parts = json!([{"text": "one", "unknown": 1}, {"data": {"a": 1}}]);
        let message = json!({"message_id": "m", "role": "ROLE_USER", "parts": parts, "context_id": "c", "taskId": ""});
        let message = read(json!({"message": message, "tenant": "x"})).unwrap();
        assert_eq!((message.text.as_str(), message.id.as_str()), ("one\n\n{\"a\":1}", "m"));
        assert_eq!((message.context.as_deref(), message.task), (Some("c"), None));
    }

    #[test]
    fn what_is_missing_or_not_supported_is_named() {
        let valid = json!({"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi"}]});
        let with = |field: &str, value: Value| {
            let mut message = valid.clone();
            message[field] = value;
            json!({"message": message})
        };
        for (request, code) in [
            (json!({}), -32602),
            (with("messageId", json!(null)), -32602),
            (with("messageId", json!("")), -32602),
            (with("role", json!("ROLE_AGENT")), -32602),
            (with("role", json!(null)), -32602),
            (with("parts", json!([])), -32602),
            (with("parts", json!(null)), -32602),
            (with("parts", json!([{"text": " "}])), -32602),
            (with("parts", json!([{"kind": "file"}])), -32602),
            (with("parts", json!([{"text": "hi"}, {"raw": "aGk="}])), -32005),
            (with("parts", json!([{"url": "https://example.com/x"}])), -32005),
        ] {
            let error = read(request.clone()).unwrap_err().to_rpc(&Value::Null);
            assert_eq!(error["error"]["code"], code, "{request}");
        }
    }

    #[test]
    fn log_has_the_clients_id_of_a_message() {
        let command = message_command_id("m-1").unwrap();
        assert_eq!((command.as_str(), client_message_id(&command)), ("a2a-m-1", Some("m-1")));
        for id in ["with spaces", "ä", &"x".repeat(200)] {
            let command = message_command_id(id).unwrap();
            assert_eq!((Some(command.clone()), client_message_id(&command)), (message_command_id(id), None));
        }
        assert_eq!(client_message_id(&"other".parse().unwrap()), None);
    }
}
