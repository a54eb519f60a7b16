//! The conversation as messages of AG-UI.

use std::{collections::HashMap, sync::Arc};

use k8sops_core::{ChatMessage, CommandId, EventBody, MessageId, ToolCall, ToolCallId, ToolStatus};
use serde_json::{Value, json};

/// The ids that a client gave to messages of the user, by the commands that brought them. A client that has a message under its
/// own id would show it twice if it came back under that of the log.
#[derive(Debug, Default)]
pub(super) struct ClientMessageIds(HashMap<CommandId, String>);

impl FromIterator<(CommandId, String)> for ClientMessageIds {
    fn from_iter<I: IntoIterator<Item = (CommandId, String)>>(ids: I) -> Self {
        Self(ids.into_iter().collect())
    }
}

impl ClientMessageIds {
    /// Returns the id of a message for the client.
    fn find_id(&self, command: Option<&CommandId>, logged: MessageId) -> String {
        command.and_then(|command| self.0.get(command)).cloned().unwrap_or_else(|| logged.to_string())
    }
}

/// The messages of a session, which follow its events.
#[derive(Debug, Default)]
pub(super) struct AgUiConversation {
    messages: Vec<Value>,
    client_ids: ClientMessageIds,
}

impl AgUiConversation {
    /// Converts the messages of a session.
    pub(super) fn from_messages(messages: &[Arc<ChatMessage>], client_ids: ClientMessageIds) -> Self {
        let messages = messages.iter().map(|message| match message.as_ref() {
            ChatMessage::User(m) => user_message(&client_ids.find_id(m.command_id.as_ref(), m.message_id), &m.content),
            ChatMessage::Assistant(m) => assistant_message(&m.message_id.to_string(), &m.content, &m.tool_calls),
            ChatMessage::Tool(m) => tool_message(&m.tool_call_id, &m.content, m.status),
        });
        let messages = messages.collect();
        Self { messages, client_ids }
    }

    /// Adds the message of an event, if it has one.
    pub(super) fn apply_event(&mut self, body: &EventBody) {
        self.messages.extend(match body {
            EventBody::UserMessage(e) => {
                Some(user_message(&self.client_ids.find_id(e.command_id.as_ref(), e.message_id), &e.content))
            }
            EventBody::AssistantMessage(e) => {
                Some(assistant_message(&e.message_id.to_string(), &e.content, &e.tool_calls))
            }
            EventBody::ToolEnd(e) => Some(tool_message(&e.tool_call_id, &e.content, e.status)),
            _ => None,
        });
    }

    pub(super) fn messages(&self) -> &[Value] {
        &self.messages
    }
}

/// Returns the id of the message that holds the result of a call.
pub(super) fn result_message_id(call: &ToolCallId) -> String {
    format!("result-{call}")
}

fn user_message(id: &str, content: &str) -> Value {
    json!({"id": id, "role": "user", "content": content})
}

fn assistant_message(id: &str, content: &str, calls: &[ToolCall]) -> Value {
    let mut message = json!({"id": id, "role": "assistant", "content": content});
    if !calls.is_empty() {
        let calls: Vec<Value> = calls
            .iter()
            .map(|call| {
                let function = json!({"name": call.name, "arguments": call.arguments.to_string()});
                json!({"id": call.id, "type": "function", "function": function})
            })
            .collect();
        message["toolCalls"] = Value::Array(calls);
    }
    message
}

fn tool_message(call: &ToolCallId, content: &str, status: ToolStatus) -> Value {
    let mut message = json!({"id": result_message_id(call), "role": "tool", "toolCallId": call, "content": content});
    if status != ToolStatus::Ok {
        message["error"] = status.as_str().into();
    }
    message
}
