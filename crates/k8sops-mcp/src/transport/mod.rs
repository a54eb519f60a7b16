//! Transports: how a connection to a server is made, and how messages get there and back.
//!
//! ```text
//! McpConnector: stdio ──────┐                            ┌─ LineTransport ─── pipes of the child process
//!               in-process ─┼─ handshake ─ InboundFilter ┼─ LineTransport ─── in-process pipe
//!               http ───────┘                            └─ SDK's transport ─ CorrelatingClient ─ reqwest
//! ```
//!
//! The SDK drops messages that it cannot parse, and the call that waits for such an answer only ends at its time limit.
//! `LineTransport` and `CorrelatingClient` repair what can be repaired (`message_repair`), find out which request a malformed or oversized message answers, and answer it
//! with an error at once.

mod child_process;
pub(crate) mod connector;
mod connector_factory;
mod correlating_client;
mod environment;
mod error_response;
mod handshake;
mod http_connector;
mod http_post;
pub(crate) mod id_scanner;
pub(crate) mod in_process_connector;
mod inbound_filter;
mod line_transport;
mod message_repair;
mod redact;
pub(crate) mod send_error;
mod stderr_tail;
mod stdio_connector;

pub use connector_factory::{build_connector, build_server_connector};
