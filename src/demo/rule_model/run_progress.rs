//! The progress of a run, read from a request: the last user message and the tool results since then.

use serde_json::{Map, Value, json};

use super::wording::code_block;
use k8sops_core::{ChatMessage, ToolStatus};
use k8sops_models::{ChatRequest, ToolSpec};

/// The next step of a run.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum NextStep {
    /// Call these tools, after a text that announces them.
    CallTools { text: String, calls: Vec<(String, Value)> },
    /// End the run with this reply.
    Reply(String),
}

/// A tool call of the run, with its result.
#[derive(Debug)]
pub(super) struct FinishedToolCall<'a> {
    pub tool: &'a str,
    pub arguments: &'a Value,
    pub status: ToolStatus,
    pub content: &'a str,
}

/// The run so far, as the messages of the request show it.
#[derive(Debug)]
pub(super) struct RunProgress<'a> {
    /// The last message of the user.
    pub text: &'a str,
    /// The last reply of the model before that message.
    pub last_reply: Option<&'a str>,
    pub calls: Vec<FinishedToolCall<'a>>,
    tools: &'a [ToolSpec],
}

/// Returns what a tool returned, without the notes for a language model that k8sops adds at its end.
fn without_notes(content: &str) -> &str {
    content.split_once("\n[k8sops: ").map_or(content, |(output, _)| output)
}

impl<'a> RunProgress<'a> {
    /// Reads the run from a request; `None` if there is no user message.
    pub(super) fn from_request(request: &'a ChatRequest) -> Option<Self> {
        let messages = &request.messages;
        let (at, text) = messages.iter().enumerate().rev().find_map(|(i, m)| match &**m {
            ChatMessage::User(user) => Some((i, user.content.as_str())),
            _ => None,
        })?;
        let last_reply = messages[..at].iter().rev().find_map(|m| match &**m {
            ChatMessage::Assistant(a) if !a.content.is_empty() => Some(a.content.as_str()),
            _ => None,
        });
        let requested = || {
            messages[at..].iter().flat_map(|m| match &**m {
                ChatMessage::Assistant(a) => a.tool_calls.as_slice(),
                _ => &[],
            })
        };
        let calls = messages[at..]
            .iter()
            .filter_map(|m| match &**m {
                ChatMessage::Tool(tool) => {
                    let call = requested().find(|c| c.id == tool.tool_call_id)?;
                    Some(FinishedToolCall {
                        tool: &call.name,
                        arguments: &call.arguments,
                        status: tool.status,
                        content: without_notes(&tool.content),
                    })
                }
                _ => None,
            })
            .collect();
        Some(Self { text, last_reply, calls, tools: &request.tools })
    }

    /// Returns the name under which a tool is offered.
    fn offered_name(&self, tool: &str) -> Option<&'a str> {
        let exact = self.tools.iter().find(|t| t.name == tool);
        exact.or_else(|| self.tools.iter().find(|t| is_tool_name(&t.name, tool))).map(|t| t.name.as_str())
    }

    /// Returns a call of this run, if it was made.
    pub(super) fn find_call(&self, tool: &str, arguments: &Value) -> Option<&FinishedToolCall<'a>> {
        self.calls.iter().find(|call| is_tool_name(call.tool, tool) && same_arguments(call.arguments, arguments))
    }

    /// Requests all of these calls that were not made in this run and whose tools are offered. Returns `Ok` if no call is
    /// left.
    pub(super) fn request_calls(&self, announcement: &str, calls: &[(&str, Value)]) -> Result<(), NextStep> {
        let pending: Vec<(String, Value)> = calls
            .iter()
            .filter(|(tool, arguments)| self.find_call(tool, arguments).is_none())
            .filter_map(|(tool, arguments)| Some((self.offered_name(tool)?.to_owned(), arguments.clone())))
            .collect();
        if pending.is_empty() {
            Ok(())
        } else {
            Err(NextStep::CallTools { text: announcement.to_owned(), calls: pending })
        }
    }

    /// Returns the result of a call. Requests the call if it was not made, and ends the run if it failed.
    pub(super) fn require_result(
        &self,
        announcement: &str,
        tool: &str,
        arguments: &Value,
    ) -> Result<&'a str, NextStep> {
        self.request_calls(announcement, &[(tool, arguments.clone())])?;
        match self.find_call(tool, arguments) {
            Some(call) if call.status == ToolStatus::Ok => Ok(call.content),
            Some(call) => Err(NextStep::Reply(describe_failure(call))),
            None => Err(NextStep::Reply(format!(
                "This needs the tool `{tool}`, which no connected server offers. Nothing was changed."
            ))),
        }
    }

    /// Returns the result of a change. Requests the change if it was not made, and ends the run if it failed. A change is
    /// made once per run, even if its arguments were edited during approval.
    pub(super) fn apply_change(&self, announcement: &str, tool: &str, arguments: &Value) -> Result<&'a str, NextStep> {
        match self.calls.iter().find(|call| is_tool_name(call.tool, tool)) {
            Some(call) if call.status == ToolStatus::Ok => Ok(call.content),
            Some(call) => Err(NextStep::Reply(describe_failure(call))),
            None => self.require_result(announcement, tool, arguments),
        }
    }

    /// Returns the result of a call, if it was made and succeeded.
    pub(super) fn successful_result(&self, tool: &str, arguments: &Value) -> Option<&'a str> {
        self.find_call(tool, arguments).filter(|call| call.status == ToolStatus::Ok).map(|call| call.content)
    }
}

/// Returns the arguments that select one namespace, or all.
pub(super) fn namespace_arguments(namespace: Option<&str>) -> Value {
    namespace.map_or_else(|| json!({}), |ns| json!({ "namespace": ns }))
}

/// Returns whether `name` is `tool`, alone or after a server prefix (`demo__pods_list`).
fn is_tool_name(name: &str, tool: &str) -> bool {
    let prefix = name.strip_suffix(tool);
    prefix.is_some_and(|p| p.is_empty() || !p.ends_with(|c: char| c.is_ascii_alphanumeric()))
}

/// Returns whether a call has these arguments. No arguments and an empty object are equal.
fn same_arguments(made: &Value, wanted: &Value) -> bool {
    let empty = Map::new();
    let made = made.as_object().unwrap_or(&empty);
    let wanted = wanted.as_object().unwrap_or(&empty);
    made == wanted
}

/// Returns the reply for a call that did not succeed.
pub(super) fn describe_failure(call: &FinishedToolCall<'_>) -> String {
    let FinishedToolCall { tool, status, content, .. } = call;
    let output = code_block(content);
    match status {
        ToolStatus::Ok => output,
        ToolStatus::Denied => format!("`{tool}` was not approved, so it did not run and changed nothing."),
        ToolStatus::Cancelled => format!("`{tool}` was cancelled before it returned a result."),
        ToolStatus::Error => format!("`{tool}` failed with this output:\n\n{output}"),
        ToolStatus::Timeout => format!(
            "`{tool}` did not answer in time. A change may have taken effect: check before you try again, for example \
             with `list deployments` and `events`."
        ),
        ToolStatus::Unknown => format!(
            "It is unknown whether `{tool}` took effect: the call was sent, and its result was lost. It is not sent again \
             automatically. Check first, for example with `list deployments` and `events`."
        ),
    }
}
