//! What the catalog says about tools: to the API, and to a call whose tool has changed.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use k8sops_core::ToolEffect;

use crate::{ToolGate, ToolRef, tool_offer::ToolOffer};

/// A tool as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ToolInfo {
    /// Name under which models call the tool.
    pub name: String,
    /// Server that runs the tool.
    pub server: String,
    /// Name of the tool on its server.
    pub remote_name: String,
    /// What the tool does, as the server describes it.
    pub description: String,
    /// JSON Schema of the arguments, as models get it.
    #[schema(value_type = Object)]
    pub input_schema: Map<String, Value>,
    /// Effect of a call on the cluster, as far as it does not depend on the arguments.
    pub effect: ToolEffect,
    /// Whether a call runs immediately, after a user's approval, or never.
    pub gate: ToolGate,
    /// Where the effect comes from.
    pub reason: String,
    /// Whether models get the tool with every request.
    pub offer: ToolOffer,
}

/// A tool that no model gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LeftOutTool {
    /// Server that lists the tool.
    pub server: String,
    /// Name of the tool on its server; empty if it has none.
    pub remote_name: String,
    /// Why it is left out.
    pub reason: String,
}

/// A call is not what it was when it was classified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OutdatedCall {
    #[error("The MCP server {} no longer has the tool {}.", .0.server(), .0.tool())]
    ToolRemoved(ToolRef),
    #[error(
        "The tool {} of the MCP server {} has changed: a call is {} now and was {} when it was classified. Repeat the call to \
         have it classified again.", .tool.tool(), .tool.server(), .now.as_str(), .before.as_str()
    )]
    BecameStricter { tool: ToolRef, before: ToolEffect, now: ToolEffect },
}
