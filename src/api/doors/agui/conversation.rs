//! The conversation as messages of AG-UI.

use std::{collections::HashMap, sync::Arc};

use k8sops_core::{ChatMessage, CommandId, EventBody, MessageId, ToolCall, ToolCallId, ToolStatus};
use serde_json::{Value, json};

use crate::api::doors::spoken_answer::SpokenAnswer;

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

/// How the ids of the door's questions in words begin.
const QUESTION_PREFIX: &str = "question-";

/// Returns an id for a question in words. It is in no log.
pub(super) fn new_question_id() -> String {
    format!("{QUESTION_PREFIX}{}", MessageId::new())
}

/// A message that a client has.
#[derive(Debug)]
pub(super) struct KnownMessage<'a> {
    pub(super) id: &'a str,
    pub(super) role: &'a str,
    pub(super) text: String,
}

impl KnownMessage<'_> {
    /// Returns the message if it is a question or an answer in words. The log has neither, and without them in a snapshot they would
    /// vanish from the client's conversation.
    fn as_exchange(&self) -> Option<Value> {
        match self.role {
            "user" => SpokenAnswer::parse(&self.text).map(|_| user_message(self.id, &self.text)),
            "assistant" if self.id.starts_with(QUESTION_PREFIX) => Some(assistant_message(self.id, &self.text, &[])),
            _ => None,
        }
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

    /// Puts back what the client and the door said in words, each where the client has it.
    pub(super) fn with_exchanges<'a>(mut self, known: impl Iterator<Item = KnownMessage<'a>>) -> Self {
        let mut last = None;
        for message in known {
            let is_it = |logged: &Value| logged["id"] == message.id;
            if let Some(at) = self.messages.iter().position(is_it) {
                last = Some(at);
            } else if let (Some(at), Some(exchange)) = (last, message.as_exchange()) {
                self.messages.insert(at + 1, exchange);
                last = Some(at + 1);
            }
        }
        self
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
