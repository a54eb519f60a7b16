//! Connections to MCP servers: transports, supervision, tool discovery, calls, elicitation.
//!
//! [`McpHub`] is the entry point. It keeps a connection to every configured server, knows the tools that each server offers,
//! and calls them. It does not know what a tool does and does not decide whether a call is allowed; its caller does.
//!
//! ```text
//! McpHub ─┬─ supervisor "a" ── McpConnector ── stdio │ http │ in-process
//!         ├─ supervisor "b" ── …
//!         │    connect → discover tools → monitor (health checks, list_changed, closed) → lost → backoff → connect → …
//!         ├─ server "c", whose headers contain ${user.token} ── one supervisor per user, started by the first call
//!         └─ call_tool(server, tool, …) ── on the active connection of that server (and user)
//!              ▲
//!              └─ progress, and elicitations: questions of the server to the user
//! ```
//!
//! # Example
//!
//! ```no_run
//! # async fn example(options: &k8sops_mcp::McpOptions) -> Result<(), Box<dyn std::error::Error>> {
//! use std::{collections::BTreeMap, time::Duration};
//! use k8sops_mcp::{CallLimits, McpCallContext, McpHub, McpTransport, build_connector};
//! use tokio_util::{sync::CancellationToken, task::TaskTracker};
//!
//! let transport = McpTransport::Stdio {
//!     command: "kubernetes-mcp-server".to_owned(),
//!     args: vec!["--read-only".to_owned()],
//!     env: BTreeMap::new(),
//!     pass_env: Vec::new(),
//! };
//! let servers = vec![("k8s".to_owned(), build_connector(&transport)?)];
//! let hub = McpHub::start(servers, options, TaskTracker::new(), &CancellationToken::new());
//! hub.wait_for_first_attempts().await;
//!
//! let context = McpCallContext::with_limits(CallLimits::uniform(Duration::from_secs(60)));
//! let output = hub.call_tool("k8s", "namespaces_list", serde_json::Map::new(), context).await?;
//! println!("{}", output.text);
//! hub.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! - **A call is never retried.** A request is sent once; it is sent again only if the server asks for input first
//!   (`input_required`). [`CallError`] says whether the call can have had an effect.
//! - **A call always ends.** [`CallLimits`] bound the time without progress and the total time. The time that a user takes to
//!   answer an elicitation does not count. A call on a connection that closes ends at once.
//! - **A lost server comes back.** Its supervisor reconnects with exponential backoff and jitter. The tools stay known while
//!   the server is disconnected.
//! - **Servers are untrusted.** Message size, number of tools, open requests and open elicitations are bounded. A message
//!   that cannot be parsed costs only the call that it answers. Error texts contain no configured secrets.
//! - **No process is left behind.** A stdio server runs in its own process group, which is killed when the connection closes
//!   and, with [`use_server_launcher`], when this process dies.
//!
//! # Modules
//!
//! | module | holds |
//! |---|---|
//! | `hub` | [`McpHub`]: all servers together |
//! | `options`, `server_options`, `server_config` | [`McpOptions`]: the settings, and how the list of servers is read |
//! | `supervisor`, `server_state`, `active_connection` | the task that keeps a server connected, and what is known of the server |
//! | `server_launcher` | ends a stdio server when this process dies |
//! | `server_identity` | what a server says of itself |
//! | `per_user` | servers that every user connects to with their own token |
//! | `tool_filter` | the operator's choice of a server's tools |
//! | `tool_discovery`, `tool_subscription`, `skipped_tools` | the tools of a server, and how changes are noticed |
//! | `tool_call`, `in_flight_call`, `input_required` | one call: limits, progress, requests for input |
//! | `elicitation`, `elicitation_relay`, `elicitation_schema` | questions to the user: types, translation, validation |
//! | `connection_handler` | what a server sends on its own: progress, elicitations, changed tools, the end |
//! | `transport` | stdio, HTTP and in-process connections, and the defenses against malformed messages |
//!
//! # Logs
//!
//! The `rmcp` crate logs the content of every notification at `info`, of every result at `debug`, and the URL of a server,
//! which can contain a credential, at `warn` and `error`. This crate logs everything that matters to an operator, so a
//! subscriber should set `rmcp=off` by default.

#![warn(unreachable_pub)]

mod active_connection;
mod call_context;
mod call_outcome;
mod close_reason;
mod connection_handler;
mod convert;
mod elicitation;
mod elicitation_relay;
mod elicitation_schema;
mod error_reason;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod hub;
mod in_flight_call;
mod input_required;
mod options;
mod per_user;
mod private_kubeconfig;
mod reconnect_backoff;
mod remote_tool;
mod request_error;
mod server_config;
mod server_identity;
mod server_launcher;
mod server_options;
mod server_state;
mod server_status;
mod server_text;
mod skipped_tools;
mod supervisor;
#[cfg(any(test, feature = "test-server"))]
pub mod test_server;
#[cfg(test)]
mod tests;
mod tool_call;
mod tool_discovery;
mod tool_filter;
mod tool_list_repair;
mod tool_subscription;
mod transport;

pub use call_context::{CallLimits, CallProgress, McpCallContext, ProgressCallback};
pub use call_outcome::{CallError, CallOutput, DeadlineExceeded};
pub use connection_handler::ConnectionHandler;
pub use elicitation::{ElicitationAnswer, ElicitationForm, ElicitationHandler, ElicitationRequest};
pub use elicitation_schema::{
    ElicitationMismatch, FieldProblem, fill_elicitation_defaults, validate_elicitation_answer,
};
pub use error_reason::ErrorReason;
pub use hub::{McpHub, OperatorNote};
pub use options::McpOptions;
pub use remote_tool::{RemoteTool, ToolHints};
pub use server_config::{McpServerConfig, McpTransport, ServerScope, USER_TOKEN};
pub use server_identity::ServerIdentity;
pub use server_launcher::{LAUNCHER_COMMAND, run_mcp_server, use_server_launcher};
pub use server_options::DEFAULT_SERVER_VARIABLES;
pub use server_status::{ServerStatus, WAITS_FOR_TOKEN};
pub use skipped_tools::SkippedTool;
pub use tool_filter::ToolFilter;
pub use transport::{
    build_connector, build_server_connector,
    connector::{ConnectError, McpConnection, McpConnector},
    in_process_connector::InProcessConnector,
};
