//! `/v1/sessions/{session_id}/ws`: the server sends events, the client sends commands.
//!
//! - `account_socket`: the WebSocket of `/v1/events`
//! - `endpoint`: the handshake, and authentication by the first message
//! - `connection`: an open WebSocket
//! - `command_executor`: executes commands
//! - `frames`: commands and replies
//! - `receiver`: reads frames, and notices floods
//! - `sender`: writes frames with a time limit
//! - `socket`: the connection, and what has memory for it
//! - `upgrade`: lets a WebSocket take over the connection of its handshake

mod account_socket;
mod command_executor;
mod connection;
mod endpoint;
mod frames;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod receiver;
mod sender;
mod socket;
mod upgrade;

pub(super) use account_socket::open_account_socket;
pub(super) use endpoint::open_websocket;
pub(super) use frames::{COMMANDS, WebSocketSchemas};
pub use upgrade::serve_upgrade;
