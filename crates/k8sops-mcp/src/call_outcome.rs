//! How a call ends: with an output or an error.

use std::time::Duration;

use serde_json::Value;

use crate::ErrorReason;

/// What a call returned.
#[derive(Debug, Clone, PartialEq)]
pub struct CallOutput {
    /// All content blocks as text, in their order. Content that is not text is described in brackets.
    pub text: String,
    /// The structured content, if the tool returned any.
    pub structured: Option<Value>,
    /// Whether the tool reported a failure.
    pub is_error: bool,
}

/// Why a call returned no output. The variants differ in what is known about its effect.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CallError {
    /// The request was not sent: the server is not connected, or no server has that name.
    #[error(transparent)]
    NotSent(ErrorReason),
    /// The server rejected the request before it ran the tool: the tool does not exist, or the arguments are invalid.
    #[error(transparent)]
    Refused(ErrorReason),
    /// The server answered with a JSON-RPC error that does not say whether the tool ran.
    #[error(transparent)]
    Failed(ErrorReason),
    /// The connection was lost after the request was sent. Whether the tool ran is unknown.
    #[error(transparent)]
    Broken(ErrorReason),
    /// No answer arrived within the call's limits. Whether the tool ran is unknown.
    #[error(transparent)]
    Timeout(DeadlineExceeded),
}

/// Which of its limits a call exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeadlineExceeded {
    /// The server sent neither an answer nor progress for this long.
    #[error("no answer and no progress for {} s", .0.as_secs_f32())]
    Idle(Duration),
    /// The server sent no answer within this time, whether it reported progress or not.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Total(Duration),
}
