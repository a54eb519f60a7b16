//! Connections to MCP servers: transports, supervision, discovery, calls.
//!
//! Every server has a supervisor task that connects, discovers the tools, notices when the server is gone and connects
//! again with backoff. Nothing here knows what a tool does or whether it may run.
//!
//! ```text
//! McpHub ─┬─ supervisor "a" ── Connector ── stdio │ http │ in-process
//!         ├─ supervisor "b" ── …
//!         │   connect → discover → attend (health, list_changed, closed) → lost → backoff → connect → …
//!         ├─ server "c", whose headers hold the user's token ── a supervisor for each user, opened on demand
//!         └─ call(server, tool, …) ── straight to the connection of that server (and user); never queued, never sent
//!              ▲                      twice unless the server asks for it
//!              └─ progress, and questions to the user, of which the time does not count
//! ```
//!
//! The `rmcp` crate logs the content of every notification at `info` and of every result at `debug`, and the URL of a
//! server, which can hold a credential, at `warn` and `error`. All that matters to an operator is logged here in words, so
//! a subscriber should set `rmcp=off` unless it is asked for more by name.

mod ask;
mod call;
mod connect;
mod content;
mod correlate;
mod elicit;
mod flight;
mod form;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod handler;
mod http;
mod hub;
mod lines;
mod listing;
mod mask;
mod options;
mod rounds;
mod scan;
mod server;
mod server_options;
mod stdio;
mod users;
mod watch;

#[cfg(any(test, feature = "test-server"))]
pub mod test_server;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

pub use ask::{CallLimits, ElicitationAnswer, ElicitationForm, ElicitationHandler, ElicitationRequest, McpCallContext};
pub use connect::{ConnectError, InProcessConnector, McpConnection, McpConnector, build_connector};
pub use form::{check as validate_elicitation_answer, complete as fill_elicitation_defaults};
pub use handler::{ConnectionHandler, ProgressCallback};
pub use http::HttpConnector;
pub use hub::McpHub;
pub use options::*;
pub use server_options::DEFAULT_SERVER_VARIABLES;
pub use stdio::StdioConnector;
pub use users::WAITS_FOR_TOKEN;

use serde_json::{Map, Value};

/// A tool as its server describes it. All of it is the server's word.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteTool {
    /// The name on the server; any characters.
    pub name: String,
    /// What it does; may be empty.
    pub description: String,
    /// JSON Schema of the arguments.
    pub input_schema: Map<String, Value>,
    /// Hints of the server on what the tool does to the world.
    pub hints: ToolHints,
}

/// MCP's tool annotations; `None` where the server says nothing.
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

/// One server as it stands now.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerStatus {
    /// Its name in the configuration.
    pub name: String,
    /// `stdio`, `http` or `in-process`.
    pub transport: &'static str,
    /// Whether calls can be made now.
    pub connected: bool,
    /// Why not, for the operator; no secret in it.
    pub error: Option<String>,
    /// Its tools as of the newest discovery; kept while the server is away.
    pub tools: Arc<[RemoteTool]>,
}

/// What a call returned.
#[derive(Debug, Clone, PartialEq)]
pub struct CallOutput {
    /// All content blocks as text, in their order; what is not text is described in brackets.
    pub text: String,
    /// The structured content, if the tool gives one.
    pub structured: Option<Value>,
    /// Whether the tool says that it failed.
    pub is_error: bool,
}

/// Why a call returned nothing.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CallError {
    /// The request was never sent: the server is not connected, or there is no such server.
    #[error("{0}")]
    NotSent(String),
    /// The server turned the request away before the tool was run: there is no such tool, or the arguments are wrong.
    #[error("{0}")]
    Refused(String),
    /// The server answered with an error (of JSON-RPC) that does not say whether the tool was run.
    #[error("{0}")]
    Failed(String),
    /// The connection broke after the request was sent: what became of it is not known.
    #[error("{0}")]
    Broken(String),
    /// No answer in time: what became of it is not known.
    #[error("{0}")]
    Timeout(DeadlineExceeded),
}

/// Which of its limits a call has run into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeadlineExceeded {
    /// The server gave no sign of life for so long.
    #[error("no answer and no progress for {} s", .0.as_secs_f32())]
    Idle(Duration),
    /// There was no answer within this time, whatever else the server said.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Total(Duration),
}

/// A `notifications/progress` of a running call.
#[derive(Debug, Clone, PartialEq)]
pub struct CallProgress {
    /// How far.
    pub progress: f64,
    /// Of how much.
    pub total: Option<f64>,
    /// In words.
    pub message: Option<String>,
}
