//! What clients send. Fields that are not listed are ignored: clients send many, for many models.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::response_id::{ApprovalItemId, ResponseMode};
use crate::api::{
    commands::{ApprovalVerdict, ResolveApproval},
    doors::{
        message_text::MessageText,
        openai::{chat_history::ChatHistory, completion_request::RequestMessage},
    },
    problem::ProblemDetails,
    problem_code::ProblemCode,
};

/// A request for a response.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = CreateResponse)]
pub(super) struct ResponseRequest {
    /// `k8sops`, also behind the name of a provider and a slash.
    #[serde(default)]
    pub(super) model: Option<String>,
    /// A text, or a list of items. Of messages, the last one of the user is sent to the session; those before it find the session
    /// if nothing else names it. A last item `mcp_approval_response` answers a request for approval.
    #[serde(default)]
    #[schema(value_type = Value)]
    pub(super) input: Value,
    /// The response that the conversation goes on from.
    #[serde(default)]
    pub(super) previous_response_id: Option<String>,
    /// The conversation: the id that responses have, the id of a session, or a name that the client chooses; or an object with it
    /// as `id`.
    #[serde(default)]
    #[schema(value_type = Value)]
    conversation: Value,
    /// Whether the response is a stream of events.
    #[serde(default)]
    stream: Option<bool>,
    /// Whether the response is returned at once, and read later.
    #[serde(default)]
    background: Option<bool>,
    /// Must be empty, or name servers of the agent (`{"type": "mcp", "server_label": "…"}`): the agent has its own tools.
    #[serde(default)]
    #[schema(value_type = Vec<Value>)]
    tools: Option<Vec<Value>>,
    /// `none` allows tools of the client, which are then ignored.
    #[serde(default)]
    #[schema(value_type = Value)]
    tool_choice: Value,
    /// Its `format` must be `text`.
    #[serde(default)]
    #[schema(value_type = Value)]
    text: Value,
    /// Ignored, but for tasks of chat clients: the agent has its own instructions.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    instructions: Value,
    /// Must be absent: the service has no stored prompts.
    #[serde(default)]
    #[schema(value_type = Value)]
    prompt: Value,
}

/// The form of the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResponseForm {
    Whole,
    Events,
}

/// What a client asks for.
#[derive(Debug)]
pub(super) enum ResponseInput {
    /// A message, and what was said before.
    Message(Arc<ChatHistory>),
    /// Answers to requests for approval.
    Answers(Vec<ApprovalAnswer>),
}

/// An answer to a request for approval.
#[derive(Debug)]
pub(super) struct ApprovalAnswer {
    pub(super) id: ApprovalItemId,
    pub(super) answer: ResolveApproval,
}

#[derive(Deserialize)]
struct ApprovalResponseItem {
    approval_request_id: String,
    approve: bool,
    #[serde(default)]
    reason: Option<String>,
}

impl ResponseRequest {
    /// Returns the form of the response.
    pub(super) fn form(&self) -> ResponseForm {
        if self.stream == Some(true) { ResponseForm::Events } else { ResponseForm::Whole }
    }

    /// Returns whether the client waits.
    pub(super) fn mode(&self) -> ResponseMode {
        if self.background == Some(true) { ResponseMode::Background } else { ResponseMode::Foreground }
    }

    /// Returns what the client calls the conversation.
    pub(super) fn conversation(&self) -> Option<&str> {
        let id = self.conversation.as_str().or_else(|| self.conversation.get("id").and_then(Value::as_str));
        id.filter(|id| !id.is_empty())
    }

    /// Refuses what would silently not be done.
    pub(super) fn check_supported(&self) -> Result<(), ProblemDetails> {
        let refuse = |what: &str| Err(ProblemDetails::invalid(what));
        let is_named = matches!(&self.conversation, Value::Null | Value::String(_))
            || self.conversation.get("id").is_some_and(Value::is_string);
        if !is_named {
            return refuse("conversation must be a text, or an object with a text as `id`");
        }
        if self.previous_response_id.is_some() && self.conversation().is_some() {
            return refuse("previous_response_id and conversation both name what came before; send one of them");
        }
        let are_foreign = self.tools.iter().flatten().any(|tool| !names_server(tool));
        if are_foreign && self.tool_choice.as_str() != Some("none") {
            return refuse(
                "tools are not supported: the agent calls its own, and none of the client's; an `mcp` tool may name one of its \
                 servers by server_label alone",
            );
        }
        let format = self.text.get("format").and_then(|format| format.get("type")).and_then(Value::as_str);
        if let Some(format) = format.filter(|format| *format != "text") {
            return refuse(&format!("text.format {format:?} is not supported; the answer is text"));
        }
        if !self.prompt.is_null() {
            return refuse("prompt is not supported: the service has no stored prompts");
        }
        Ok(())
    }

    /// Reads the input.
    pub(super) fn read_input(&self) -> Result<ResponseInput, ProblemDetails> {
        let items = match &self.input {
            Value::String(text) => {
                return self.check_message(ChatHistory { message: text.clone(), ..ChatHistory::default() });
            }
            Value::Array(items) => items,
            Value::Null => return Err(ProblemDetails::invalid("input is missing")),
            _ => return Err(ProblemDetails::invalid("input must be a text or a list of items")),
        };
        let mut messages = Vec::new();
        let mut answers = Vec::new();
        for item in items {
            if !item.is_object() {
                return Err(ProblemDetails::invalid("input must be a text or a list of items, which are objects"));
            }
            match item.get("type").and_then(Value::as_str) {
                Some("message") | None => {
                    let message = RequestMessage::deserialize(item)
                        .map_err(|error| ProblemDetails::new(ProblemCode::InvalidJson, format!("input: {error}")))?;
                    // Answers before a message of the user are history.
                    if message.role == "user" {
                        answers.clear();
                    }
                    messages.push(message);
                }
                Some("mcp_approval_response") => answers.push(read_answer(item)?),
                // Items of the responses before, or references to them: the log has them.
                Some(_) => {}
            }
        }
        if !answers.is_empty() {
            return Ok(ResponseInput::Answers(answers));
        }
        let Some(history) = ChatHistory::from_messages(&messages) else {
            return Err(ProblemDetails::invalid("input must contain a message of the role `user` with a text"));
        };
        self.check_message(history)
    }

    fn check_message(&self, mut history: ChatHistory) -> Result<ResponseInput, ProblemDetails> {
        if history.message.trim().is_empty() {
            return Err(ProblemDetails::invalid("input must not be empty"));
        }
        let read = MessageText { text: std::mem::take(&mut history.message), unread_parts: history.unread_parts };
        history.message = read.with_note();
        if let Some(instructions) = self.instructions.as_str() {
            history.instructions.insert_str(0, &format!("{instructions}\n"));
        }
        Ok(ResponseInput::Message(Arc::new(history)))
    }
}

/// Whether a tool only names a server of the agent. The Agents SDK asks for approvals only of servers that it was told of.
fn names_server(tool: &Value) -> bool {
    let has = |field: &str| tool.get(field).is_some_and(|value| !value.is_null());
    tool.get("type").and_then(Value::as_str) == Some("mcp") && !has("server_url") && !has("connector_id")
}

fn read_answer(item: &Value) -> Result<ApprovalAnswer, ProblemDetails> {
    let response = ApprovalResponseItem::deserialize(item).map_err(|error| {
        ProblemDetails::new(ProblemCode::InvalidJson, format!("input: mcp_approval_response: {error}"))
    })?;
    let id = response.approval_request_id.parse().map_err(|_| {
        let detail = format!("there is no request for approval {:?}", response.approval_request_id);
        ProblemDetails::new(ProblemCode::ApprovalNotFound, detail)
    })?;
    let decision = if response.approve { ApprovalVerdict::Approve } else { ApprovalVerdict::Deny };
    let comment = response.reason.filter(|reason| !reason.trim().is_empty());
    Ok(ApprovalAnswer { id, answer: ResolveApproval { decision, arguments: None, comment } })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const APPROVAL: &str = "mcpr_0190000000007000800000000000000a019af00000007000800000000000000b_1_5_0";

    fn request(body: Value) -> ResponseRequest {
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn clients_send_all_kinds_of_input() {
        let answer = json!({"type": "mcp_approval_response", "approval_request_id": APPROVAL, "approve": true});
        for (input, message, turns) in [
            (json!("hi"), "hi", 0),
            (json!([{"role": "user", "content": "hi"}]), "hi", 0),
            (
                json!([
                    {"type": "message", "role": "developer", "content": "be brief"},
                    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]},
                    {"type": "reasoning", "summary": []},
                    {"type": "mcp_call", "id": "mcp_1", "name": "look"},
                    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "b"}]},
                    answer,
                    {"type": "item_reference", "id": "msg_1"},
                    {"role": "user", "content": "c"},
                ]),
                "c",
                1,
            ),
            (
                json!([{"role": "user", "content": [{"type": "input_text", "text": "see"},
                    {"type": "input_image", "image_url": "data:"}]}]),
                "see\n\n(Attached parts that are no text and were not passed on: 1)",
                0,
            ),
        ] {
            match request(json!({"input": input})).read_input().unwrap() {
                ResponseInput::Message(history) => {
                    assert_eq!((history.message.as_str(), history.turns.len()), (message, turns), "{input}");
                }
                other @ ResponseInput::Answers(_) => panic!("{other:?}"),
            }
        }
        match request(json!({"input": [{"role": "user", "content": "a"}, answer]})).read_input().unwrap() {
            ResponseInput::Answers(answers) => {
                assert_eq!((answers.len(), answers[0].answer.decision), (1, ApprovalVerdict::Approve));
            }
            other @ ResponseInput::Message(_) => panic!("{other:?}"),
        }
    }

    #[test]
    fn input_without_a_message_is_refused() {
        for input in [
            json!(null),
            json!(" "),
            json!([]),
            json!(5),
            json!([{"role": "user", "content": []}]),
            json!([{"type": "item_reference", "id": "x"}]),
            json!([{"type": "message", "role": 7}]),
            json!([{"type": "mcp_approval_response", "approve": true}]),
            json!([{"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": true}]),
            json!([{"type": "mcp_approval_response", "approval_request_id": APPROVAL, "approve": "true"}]),
        ] {
            assert!(request(json!({"input": input})).read_input().is_err(), "{input}");
        }
    }

    #[test]
    fn what_would_not_be_done_is_refused() {
        for (body, is_supported) in [
            (json!({"tools": [], "text": {"format": {"type": "text"}}, "temperature": 0.1, "include": ["x"]}), true),
            (json!({"store": false, "metadata": {"a": "b"}, "reasoning": {"effort": "low"}, "stream": null}), true),
            (json!({"tools": [{"type": "function", "name": "f"}], "tool_choice": "none"}), true),
            (json!({"conversation": "", "previous_response_id": "resp_1"}), true),
            (json!({"tools": [{"type": "mcp", "server_label": "prod", "require_approval": "always"}]}), true),
            (json!({"tools": [{"type": "mcp", "server_label": "x", "server_url": "https://x.example"}]}), false),
            (json!({"tools": [{"type": "function", "name": "f"}]}), false),
            (json!({"tools": [{"type": "web_search"}], "tool_choice": "auto"}), false),
            (json!({"text": {"format": {"type": "json_schema", "name": "x", "schema": {}}}}), false),
            (json!({"prompt": {"id": "pmpt_1"}}), false),
            (json!({"conversation": 5}), false),
            (json!({"conversation": {}}), false),
            (json!({"conversation": {"id": "incident-17"}}), true),
            (json!({"conversation": {"id": "conv_1"}, "previous_response_id": "resp_1"}), false),
        ] {
            assert_eq!(request(body.clone()).check_supported().is_ok(), is_supported, "{body}");
        }
    }
}
