//! `k8sops mcp`: the MCP door over standard input and output, for programs that start their servers.
//!
//! ```text
//! host ─▶ lines of standard input ─▶ stdio_bridge ─▶ POST /mcp ─▶ service
//! host ◀─ lines of standard output ◀─ http_exchange ◀─ messages of the response ◀─┘
//! ```
//!
//! The messages are those of the service. What differs between the transports are headers, which are made of the messages, and
//! how a request is cancelled.

mod command;
mod host_message;
mod http_exchange;
mod stdio_bridge;
mod stdio_lines;

pub use command::{McpOptions, run};
