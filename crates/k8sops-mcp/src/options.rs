//! Options of this crate: the MCP servers and the limits of their connections.

use std::{collections::BTreeMap, time::Duration};

use secrecy::SecretString;

/// Placeholder in a header of an MCP server: the token of the user who makes the call.
pub const USER_TOKEN: &str = "${user.token}";

/// MCP servers.
#[derive(Debug, Clone)]
pub struct McpConfig {
    /// The servers; names are unique.
    pub servers: Vec<McpServerConfig>,
    /// How long one call may take altogether (60 s).
    pub call_timeout: Duration,
    /// How long a call may take without progress (60 s).
    pub idle_timeout: Duration,
    /// The largest message of a server, in bytes (256 MiB).
    pub max_message_bytes: usize,
    /// How long connecting and discovery may take (20 s).
    pub connect_timeout: Duration,
    /// How often a connected server is asked whether it is still there (15 s).
    pub health_interval: Duration,
    /// The longest wait between two attempts to connect (30 s; the first is 0.5 s).
    pub max_backoff: Duration,
}

/// One MCP server.
#[derive(Debug, Clone)]
pub struct McpServerConfig {
    /// Its name: `[a-z0-9-]{1,32}`; `default` is the one of the single-server variables.
    pub name: String,
    /// How it is reached.
    pub transport: McpTransport,
}

/// How an MCP server is reached.
#[derive(Debug, Clone)]
pub enum McpTransport {
    /// A child process that speaks over its standard input and output.
    Stdio {
        /// The program.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// Its environment, beyond `PATH`, `HOME` and the few others that every program needs.
        env: BTreeMap<String, SecretString>,
    },
    /// Streamable HTTP.
    Http {
        /// The endpoint.
        url: String,
        /// Headers of every request. `${user.token}` in them stands for the token of the user whose call it is.
        headers: BTreeMap<String, SecretString>,
        /// Whether the certificate is checked (`MCP_SSL_VERIFY`).
        ssl_verify: bool,
    },
}
