//! Events about the MCP servers of a session.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// MCP servers that the session sees for the first time. What they say of themselves is part of the system prompt from then
/// on and never changes within the session, so that the beginning of the prompt can be cached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServersIntroduced {
    /// The servers, in the order in which the model reads of them.
    pub servers: Vec<ServerIntroduction>,
}

/// What an MCP server says of itself, without secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerIntroduction {
    /// Name of the server in the configuration.
    pub server: String,
    /// Name of its program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// Version of its program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How its tools are to be used, in its words; absent if it says nothing, or if the operator has instructions for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
}
