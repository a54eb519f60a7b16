//! The turn that a request is in: what the user said last, and what the tools have answered since.

use serde_json::{Map, Value, json};

use super::wording::code_block;
use k8sops_core::{ChatMessage, ToolStatus};
use k8sops_models::{ChatRequest, ToolSpec};

/// What is to be done next, when the turn is not at its end.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum NextStep {
    /// Call these tools, with these words before.
    CallTools { text: String, calls: Vec<(String, Value)> },
    /// End the turn with these words.
    Reply(String),
}

/// A tool call of this turn with its result.
#[derive(Debug)]
pub(super) struct FinishedToolCall<'a> {
    pub tool: &'a str,
    pub arguments: &'a Value,
    pub status: ToolStatus,
    pub content: &'a str,
}

/// The turn, as the request's messages tell it.
#[derive(Debug)]
pub(super) struct RunProgress<'a> {
    /// What the user said.
    pub text: &'a str,
    /// What the model said before that, if it did.
    pub before: Option<&'a str>,
    pub calls: Vec<FinishedToolCall<'a>>,
    tools: &'a [ToolSpec],
}

impl<'a> RunProgress<'a> {
    /// Reads the turn; `None` when no user has said anything.
    pub fn from_request(request: &'a ChatRequest) -> Option<Self> {
        let messages = &request.messages;
        let (at, text) = messages.iter().enumerate().rev().find_map(|(i, m)| match &**m {
            ChatMessage::User(user) => Some((i, user.content.as_str())),
            _ => None,
        })?;
        let before = messages[..at].iter().rev().find_map(|m| match &**m {
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
                    let (status, content) = (tool.status, tool.content.as_str());
                    Some(FinishedToolCall { tool: &call.name, arguments: &call.arguments, status, content })
                }
                _ => None,
            })
            .collect();
        Some(Self { text, before, calls, tools: &request.tools })
    }

    /// The name under which a tool is on offer.
    fn offered_name(&self, tool: &str) -> Option<&'a str> {
        let exact = self.tools.iter().find(|t| t.name == tool);
        exact.or_else(|| self.tools.iter().find(|t| is_tool_name(&t.name, tool))).map(|t| t.name.as_str())
    }

    /// What a call of this turn has given, if it was made.
    pub fn find_call(&self, tool: &str, arguments: &Value) -> Option<&FinishedToolCall<'a>> {
        self.calls.iter().find(|o| is_tool_name(o.tool, tool) && same_arguments(o.arguments, arguments))
    }

    /// Has these calls made, those of them that were not yet made in this turn and whose tools are on offer, all at
    /// once. `Ok` when there is none left to make.
    pub fn request_calls(&self, say: &str, calls: &[(&str, Value)]) -> Result<(), NextStep> {
        let open: Vec<(String, Value)> = calls
            .iter()
            .filter(|(tool, arguments)| self.find_call(tool, arguments).is_none())
            .filter_map(|(tool, arguments)| Some((self.offered_name(tool)?.to_owned(), arguments.clone())))
            .collect();
        if open.is_empty() { Ok(()) } else { Err(NextStep::CallTools { text: say.to_owned(), calls: open }) }
    }

    /// What a call has given; has it made first, and ends the turn if it failed.
    pub fn require_result(&self, say: &str, tool: &str, arguments: &Value) -> Result<&'a str, NextStep> {
        self.request_calls(say, &[(tool, arguments.clone())])?;
        match self.find_call(tool, arguments) {
            Some(outcome) if outcome.status == ToolStatus::Ok => Ok(outcome.content),
            Some(outcome) => Err(NextStep::Reply(describe_failure(outcome))),
            None => Err(NextStep::Reply(format!(
                "This needs the tool `{tool}`, and no connected server offers it. I have not done anything."
            ))),
        }
    }

    /// What a change has given; has it made first, and ends the turn if it failed. A change is made once in a turn:
    /// whoever approves it may edit the arguments, and it is the same change still.
    pub fn apply_change(&self, say: &str, tool: &str, arguments: &Value) -> Result<&'a str, NextStep> {
        match self.calls.iter().find(|o| is_tool_name(o.tool, tool)) {
            Some(outcome) if outcome.status == ToolStatus::Ok => Ok(outcome.content),
            Some(outcome) => Err(NextStep::Reply(describe_failure(outcome))),
            None => self.require_result(say, tool, arguments),
        }
    }

    /// What a call has given, if it was made and went well.
    pub fn successful_result(&self, tool: &str, arguments: &Value) -> Option<&'a str> {
        self.find_call(tool, arguments).filter(|o| o.status == ToolStatus::Ok).map(|o| o.content)
    }
}

/// The arguments of a list: of the namespace that was named, or of all.
pub(super) fn namespace_arguments(namespace: Option<&str>) -> Value {
    namespace.map_or_else(|| json!({}), |ns| json!({ "namespace": ns }))
}

/// Whether `name` is `tool`, plain or behind a prefix that tells servers apart (`demo__pods_list`).
fn is_tool_name(name: &str, tool: &str) -> bool {
    let prefix = name.strip_suffix(tool);
    prefix.is_some_and(|p| p.is_empty() || !p.ends_with(|c: char| c.is_ascii_alphanumeric()))
}

/// Whether a call was made with these arguments.
fn same_arguments(made: &Value, wanted: &Value) -> bool {
    let empty = Map::new();
    let made = made.as_object().unwrap_or(&empty);
    let wanted = wanted.as_object().unwrap_or(&empty);
    made == wanted
}

/// What to tell the user of a call that did not go well.
pub(super) fn describe_failure(outcome: &FinishedToolCall<'_>) -> String {
    let FinishedToolCall { tool, status, content, .. } = outcome;
    let said = code_block(content);
    match status {
        ToolStatus::Ok => said,
        ToolStatus::Denied => format!("`{tool}` was not approved, so it did not run. Nothing was changed by it."),
        ToolStatus::Cancelled => format!("`{tool}` was cancelled before it gave a result."),
        ToolStatus::Error => format!("`{tool}` failed. It says:\n\n{said}"),
        ToolStatus::Timeout => format!(
            "`{tool}` did not answer in time. If it changes something, it may have done so all the same: look before \
             you try again, for example with `list deployments` and `events`."
        ),
        ToolStatus::Unknown => format!(
            "I do not know whether `{tool}` took effect: it was sent, and then its answer was lost. I do not send it \
             again by myself. Look first, for example with `list deployments` and `events`."
        ),
    }
}
