//! Tools as their server describes them.

use serde_json::{Map, Value};

/// A tool as its server describes it. Everything in it comes from the server and is untrusted.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteTool {
    /// The name on the server. It may contain any characters but control characters.
    pub name: String,
    /// The title for a person, if the server gives one.
    pub title: Option<String>,
    /// What the tool does; may be empty.
    pub description: String,
    /// JSON Schema of the arguments.
    pub input_schema: Map<String, Value>,
    /// What the server claims about the tool's effects.
    pub hints: ToolHints,
}

/// MCP's tool annotations; `None` where the server does not set one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ToolHints {
    /// `readOnlyHint`.
    pub read_only: Option<bool>,
    /// `destructiveHint`.
    pub destructive: Option<bool>,
    /// `idempotentHint`.
    pub idempotent: Option<bool>,
    /// `openWorldHint`.
    pub open_world: Option<bool>,
}
