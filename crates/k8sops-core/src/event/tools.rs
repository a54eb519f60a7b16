//! Events of a tool call: its approval, requests for input during it, its start and its end.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AffectedObject, DependentObjects, EventAuthor, PreviewDetail};
use crate::{
    ids::{ApprovalId, CommandId, InputId, ToolCallId},
    message::{ToolEffect, ToolStatus},
    time::Timestamp,
};

/// Who may answer requests for approval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalAudience {
    /// The user of the session.
    #[default]
    Owner,
    /// Another user with the role `approver`.
    Approver,
}

impl ApprovalAudience {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde needs")]
    fn is_owner(&self) -> bool {
        *self == Self::Owner
    }
}

/// A request for approval of a tool call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalRequested {
    /// The id by which to resolve the approval.
    pub approval_id: ApprovalId,
    /// The tool call that waits.
    pub tool_call_id: ToolCallId,
    /// The name of the tool.
    pub name: String,
    /// The exact arguments that an approval permits.
    pub arguments: serde_json::Value,
    /// The effect of the call on the outside world.
    pub effect: ToolEffect,
    /// Why the call needs approval.
    pub reason: String,
    /// What the call would change, where that can be found out without running it: the output of a server-side dry run, or
    /// a diff.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<String>,
    /// When the request expires; the call is then denied.
    pub expires_at: Timestamp,
    /// One line on what the call does, such as `shop/checkout: replicas 2 → 5`; empty if nothing more is known than the
    /// arguments.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary: String,
    /// The objects that the call touches, up to a bound.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<AffectedObject>,
    /// The objects that go with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependents: Vec<DependentObjects>,
    /// The MCP server that the call goes to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub server: String,
    /// The cluster of that server, as the operator calls it in `mcp.servers[].cluster`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The form of `preview`; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview_detail: Option<PreviewDetail>,
    /// The approval that lapsed, because what it showed has changed before the call was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<ApprovalId>,
    /// Who may answer; absent: the user of the session.
    #[serde(default, skip_serializing_if = "ApprovalAudience::is_owner")]
    pub answered_by: ApprovalAudience,
}

/// The decision on an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Decision)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalDecision {
    /// The call may run.
    Approve,
    /// The call must not run.
    Deny,
    /// The request expired without a decision; the call does not run.
    Expired,
}

/// The decision on a request for approval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalResolved {
    /// The approval.
    pub approval_id: ApprovalId,
    /// The decision.
    pub decision: ApprovalDecision,
    /// The arguments to run the call with, if the approver edited them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<serde_json::Value>,
    /// Who decided: `user:<id>` or `system`.
    #[schema(value_type = String)]
    pub by: EventAuthor,
    /// The approver's comment, which the model is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The command that brought the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
}

/// An MCP server's request for input from the user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InputRequested {
    /// The id by which to answer the request.
    pub input_id: InputId,
    /// The tool call that waits.
    pub tool_call_id: ToolCallId,
    /// The MCP server that requests the input.
    pub server: String,
    /// The question in the server's words, which are untrusted and not those of k8sops.
    pub message: String,
    /// JSON Schema of the answer: a flat object. Absent if a page is to be opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub schema: Option<serde_json::Map<String, serde_json::Value>>,
    /// The page outside of k8sops that the user is asked to open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// When the request expires; it is then cancelled.
    pub expires_at: Timestamp,
}

/// How a request for input was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InputAction {
    /// The user gave the values, or agreed to open the page.
    Accept,
    /// The user declined.
    Decline,
    /// The request expired without an answer, or the answer is not needed any more.
    Cancel,
}

/// The answer to a request for input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InputResolved {
    /// The request for input.
    pub input_id: InputId,
    /// How the request was answered.
    pub action: InputAction,
    /// The values, with `accept`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub content: Option<serde_json::Map<String, serde_json::Value>>,
    /// Who answered: `user:<id>` or `system`.
    #[schema(value_type = String)]
    pub by: EventAuthor,
    /// The command that brought the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
}

/// The start of a tool call. A call that was denied has one as well, directly before its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ToolStart {
    /// The tool call.
    pub tool_call_id: ToolCallId,
    /// The name of the tool as the model knows it.
    pub name: String,
    /// The MCP server that runs the tool.
    pub server: String,
    /// The arguments that are sent.
    pub arguments: serde_json::Value,
    /// The effect of the call on the outside world.
    pub effect: ToolEffect,
    /// 1, or more if a read call is sent again after an interruption.
    pub attempt: u32,
    /// Whether the call is about to be sent: false for one that was denied. Absent if it is.
    #[serde(default = "is_sent_by_default", skip_serializing_if = "is_true")]
    #[schema(default = true)]
    pub sent: bool,
}

fn is_sent_by_default() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde needs")]
fn is_true(value: &bool) -> bool {
    *value
}

/// The end of a tool call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ToolEnd {
    /// The tool call.
    pub tool_call_id: ToolCallId,
    /// The name of the tool as the model knows it; absent in logs of older versions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The MCP server of the tool; absent if there is no such tool, and in logs of older versions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub server: String,
    /// How the call ended.
    pub status: ToolStatus,
    /// The output, shortened to the output budget.
    pub content: String,
    /// The structured output, if the tool returns one that fits the budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured: Option<serde_json::Value>,
    /// Whether `content` is less than what the tool returned.
    pub truncated: bool,
    /// The size of the whole output in bytes.
    pub bytes: u64,
    /// The time since `tool_start` in milliseconds; 0 if the call was not sent.
    pub duration_ms: u64,
}
