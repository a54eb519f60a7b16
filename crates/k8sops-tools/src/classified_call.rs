//! A tool call together with the tool that it names, its effect, and whether it needs an approval.

use k8sops_core::ToolEffect;

use crate::ApprovalRequirement;

/// A call with everything that was decided about it before it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassifiedCall {
    /// The tool that runs.
    pub tool: ToolRef,
    /// Effect of the call on the cluster.
    pub effect: ToolEffect,
    /// Whether the call runs, waits for a user's approval, or is rejected.
    pub approval: ApprovalRequirement,
    /// Where the effect comes from, for a person to read.
    pub reason: String,
    /// Whether the effect is only assumed, because nothing says what the tool does.
    pub is_assumed: bool,
}

/// A tool, identified by its server and by its name on that server.
///
/// The name under which a model calls a tool can come to mean another tool while a call waits for its approval; this
/// reference cannot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolRef {
    server: String,
    tool: String,
}

impl ToolRef {
    /// Refers to the tool that `server` lists as `tool`.
    pub fn new(server: impl Into<String>, tool: impl Into<String>) -> Self {
        Self { server: server.into(), tool: tool.into() }
    }

    /// Name of the server in the configuration.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Name of the tool on its server.
    #[must_use]
    pub fn tool(&self) -> &str {
        &self.tool
    }
}
