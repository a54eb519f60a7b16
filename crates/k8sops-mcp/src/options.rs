//! Options of this crate: the MCP servers and the limits of their connections.

use std::time::Duration;

use k8sops_settings::{
    FieldShape,
    declaration::{custom, required},
    formats::{BYTE_SIZE, DURATION, TEXT},
    options,
};

use crate::{
    McpServerConfig,
    server_options::{ServerFields, read_servers},
};

options! {
    /// MCP servers, which are the agent's tools.
    #[derive(Debug, Clone)]
    pub struct McpOptions at "mcp" {
        /// The servers. `${user.token}` in a header stands for the token of the user who makes the call.
        pub servers: Vec<McpServerConfig> = custom(TEXT, FieldShape::Sections(&ServerFields::SECTION), read_servers),
        /// Longest duration of one tool call; the time that a user takes to answer a question of the server does not count.
        pub call_timeout: Duration = required(DURATION, "60s").variable("K8SOPS_MCP_CALL_TIMEOUT"),
        /// Longest time that a tool call may take without progress. If it is shorter than the call timeout, calls whose server
        /// reports progress may take longer than others.
        pub idle_timeout: Duration = required(DURATION, "60s").variable("K8SOPS_MCP_IDLE_TIMEOUT"),
        /// Largest message of a server; a larger one is an error.
        pub max_message_bytes: usize = required(BYTE_SIZE, "256MiB").variable("K8SOPS_MCP_MAX_MESSAGE_BYTES"),
        /// Longest time that connecting and discovery may take; `npx` and `uvx` download the server first. A server is
        /// `starting` until then, and calls of its tools wait for it.
        pub connect_timeout: Duration = required(DURATION, "120s").variable("K8SOPS_MCP_CONNECT_TIMEOUT"),
        /// Interval between health checks of a connected server.
        pub health_interval: Duration = required(DURATION, "15s").variable("K8SOPS_MCP_HEALTH_INTERVAL"),
        /// Longest wait between two attempts to connect; the first is 0.5 s.
        pub max_backoff: Duration = required(DURATION, "30s").variable("K8SOPS_MCP_MAX_BACKOFF"),
    }
}
