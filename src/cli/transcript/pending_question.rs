//! Questions that wait for an answer of the user.

use serde_json::Value;

/// What a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum QuestionSubject {
    /// Whether a tool call may run.
    ToolCall,
    /// Input that an MCP server requests during a call.
    ServerInput,
}

/// A question of a tool call that waits for the user.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli) struct PendingQuestion {
    pub(in crate::cli) subject: QuestionSubject,
    /// The id of the approval or the input, which the answer names.
    pub(in crate::cli) id: String,
    pub(in crate::cli) tool_call_id: String,
    /// The tool, or the server that requests input.
    pub(in crate::cli) name: String,
    /// The exact arguments that an approval lets through; for requested input, an answer to start from.
    pub(in crate::cli) arguments: Value,
}
