//! `/v1/sessions/{session_id}/ws`: the server sends events, the client sends commands.
//!
//! - `endpoint`: the handshake, and authentication by the first message
//! - `connection`: an open WebSocket
//! - `command_executor`: executes commands
//! - `frames`: commands and replies
//! - `receiver`: reads frames, and notices floods
//! - `sender`: writes frames with a time limit

mod command_executor;
mod connection;
mod endpoint;
mod frames;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod receiver;
mod sender;

pub(super) use endpoint::open_websocket;
pub(super) use frames::{COMMANDS, WebSocketSchemas};
