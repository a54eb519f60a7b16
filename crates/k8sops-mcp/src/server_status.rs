//! The published status of a server.

use std::sync::Arc;

use crate::{RemoteTool, ServerIdentity, SkippedTool};

/// The [error](ServerStatus::error) of a server that every user connects to with their own token, while no user is connected.
pub const WAITS_FOR_TOKEN: &str = "waits for a user's token";

/// The current status of one server.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerStatus {
    /// Its name in the configuration.
    pub name: String,
    /// `stdio`, `http` or `in-process`.
    pub transport: &'static str,
    /// Whether calls can be made now.
    pub connected: bool,
    /// Whether the first attempt to connect has not ended.
    pub starting: bool,
    /// Why the server is not connected, for the operator. It contains no configured secrets.
    pub error: Option<String>,
    /// What the server said of itself when it was connected last.
    pub identity: Arc<ServerIdentity>,
    /// The tools that the newest discovery found. They stay known while the server is disconnected.
    pub tools: Arc<[RemoteTool]>,
    /// The tools that it found and that cannot be used.
    pub skipped: Arc<[SkippedTool]>,
}
