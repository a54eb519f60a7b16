//! The configuration of one MCP server.

use std::collections::BTreeMap;

use secrecy::SecretString;

use crate::ToolFilter;

/// Placeholder in a header of an MCP server: the token of the user who makes the call.
pub const USER_TOKEN: &str = "${user.token}";

/// One MCP server.
#[derive(Debug, Clone)]
pub struct McpServerConfig {
    /// Name: `[a-z0-9-]{1,32}`, unique. `default` is the server of the single-server variables.
    pub name: String,
    /// The cluster that the server works on, as people call it.
    pub cluster: Option<String>,
    /// How its tools are to be used, in the operator's words; they replace those of the server.
    pub instructions: Option<String>,
    /// How the server is reached.
    pub transport: McpTransport,
    /// Which of its tools are used.
    pub tools: ToolFilter,
    /// Whose calls one process of the server serves.
    pub scope: ServerScope,
}

/// Whose calls one process of a server serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServerScope {
    /// All users and sessions share the process, so that no call may change its state.
    #[default]
    Shared,
    /// Every user has a process.
    User,
    /// Every session has a process.
    Session,
}

/// How an MCP server is reached.
#[derive(Debug, Clone)]
pub enum McpTransport {
    /// A child process that is spoken to over its standard input and output.
    Stdio {
        /// The program.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// Its environment, beyond `PATH`, `HOME` and the few others that every program needs.
        env: BTreeMap<String, SecretString>,
        /// Names of variables that it inherits in addition.
        pass_env: Vec<String>,
    },
    /// Streamable HTTP.
    Http {
        /// The endpoint.
        url: String,
        /// Headers of every request. `${user.token}` in them stands for the token of the user who makes the call.
        headers: BTreeMap<String, SecretString>,
        /// Whether the certificate is verified.
        ssl_verify: bool,
    },
}
