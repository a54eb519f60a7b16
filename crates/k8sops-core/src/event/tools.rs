//! Events of a tool call: what is asked before it and in the middle of it, its beginning and its end.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::EventAuthor;
use crate::{ApprovalId, CommandId, InputId, Timestamp, ToolCallId, ToolEffect, ToolStatus};

/// See [`EventBody::ApprovalRequested`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalRequested {
    /// The id to answer to.
    pub approval_id: ApprovalId,
    /// The call that waits.
    pub tool_call_id: ToolCallId,
    /// The tool.
    pub name: String,
    /// The exact arguments that approval lets through.
    pub arguments: serde_json::Value,
    /// What the call does to the world.
    pub effect: ToolEffect,
    /// Why it needs approval.
    pub reason: String,
    /// What the call would do, where that can be known without doing it: the output of a server-side dry run, or a diff.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<String>,
    /// When the request turns into a refusal.
    pub expires_at: Timestamp,
}

/// What became of an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Decision)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalDecision {
    /// The call may run.
    Approve,
    /// The call must not run.
    Deny,
    /// Nobody answered in time; the call does not run.
    Expired,
}

/// See [`EventBody::ApprovalResolved`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalResolved {
    /// The approval.
    pub approval_id: ApprovalId,
    /// What became of it.
    pub decision: ApprovalDecision,
    /// The arguments to run with, when the approver edited them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<serde_json::Value>,
    /// Who decided.
    #[schema(value_type = String)]
    pub by: EventAuthor,
    /// What the approver said; the model is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The command that brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
}

/// See [`EventBody::InputRequested`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InputRequested {
    /// The id to answer to.
    pub input_id: InputId,
    /// The call that waits.
    pub tool_call_id: ToolCallId,
    /// The MCP server that asks.
    pub server: String,
    /// The question, in the server's words: data, and no word of k8sops.
    pub message: String,
    /// JSON Schema of the answer: a flat object. Absent when a page is to be opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub schema: Option<serde_json::Map<String, serde_json::Value>>,
    /// The page that the user is asked to open, outside of k8sops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// When the question turns into a cancel.
    pub expires_at: Timestamp,
}

/// How a question was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InputAction {
    /// With values; or the user agreed to open the page.
    Accept,
    /// The user does not want to.
    Decline,
    /// Nobody answered in time, or nobody waits for the answer any more.
    Cancel,
}

/// See [`EventBody::InputResolved`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InputResolved {
    /// The question.
    pub input_id: InputId,
    /// How it was answered.
    pub action: InputAction,
    /// The values, with `accept`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub content: Option<serde_json::Map<String, serde_json::Value>>,
    /// Who answered.
    #[schema(value_type = String)]
    pub by: EventAuthor,
    /// The command that brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
}

/// See [`EventBody::ToolStart`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ToolStart {
    /// The call.
    pub tool_call_id: ToolCallId,
    /// The tool's name as the model knows it.
    pub name: String,
    /// The MCP server that runs it.
    pub server: String,
    /// The arguments that are sent.
    pub arguments: serde_json::Value,
    /// What the call does to the world.
    pub effect: ToolEffect,
    /// 1, or more when a read call is sent again after an interruption.
    pub attempt: u32,
}

/// See [`EventBody::ToolEnd`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ToolEnd {
    /// The call.
    pub tool_call_id: ToolCallId,
    /// How it ended.
    pub status: ToolStatus,
    /// The output, cut to the budget.
    pub content: String,
    /// The structured output, where the tool gives one and it fits the budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured: Option<serde_json::Value>,
    /// Whether `content` is less than the tool returned.
    pub truncated: bool,
    /// The size of the whole output in bytes.
    pub bytes: u64,
    /// From `tool_start` to here; 0 when the tool was not called.
    pub duration_ms: u64,
}
