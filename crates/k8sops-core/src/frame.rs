//! Frames: what a stream carries. Logged events, and the few things that are never logged.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    ApprovalRequested, ChatMessage, InputRequested, MessageId, RunId, SessionEvent, SessionId, SessionSettings,
    SessionState, SessionWarning, ToolCallId,
};

/// The version of the stream's protocol, in `hello`.
pub const PROTOCOL: u32 = 1;

/// One thing on a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamFrame {
    /// A logged event.
    Event(Arc<SessionEvent>),
    /// Anything else.
    Transient(TransientEvent),
}

/// What is streamed and never logged. The field `type` of the JSON names the variant.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Transient)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TransientEvent {
    /// The first frame of every stream.
    Hello(StreamHello),
    /// The cursor points before what is kept; a `snapshot` follows.
    Gap(StreamGap),
    /// The whole projection.
    Snapshot(SessionSnapshot),
    /// More text of a message that the model is writing.
    Token(TextDelta),
    /// More of what the model thinks aloud before or within a message.
    Reasoning(TextDelta),
    /// How far a tool call is.
    ToolProgress(ToolProgress),
    /// Something that cannot be logged now (`store_unavailable`) or any more (`session_deleted`, the last frame of a
    /// stream): it has no seq, unlike a warning that is.
    Warning(SessionWarning),
}

/// The first frame of every stream.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Hello)]
pub struct StreamHello {
    /// The version of the stream's protocol.
    pub protocol: u32,
    /// The session.
    pub session_id: SessionId,
    /// The seq of the newest logged event.
    pub last_seq: u64,
    /// The seq of the oldest event that is kept.
    pub oldest_seq: u64,
    /// The session as it stands.
    pub status: SessionStatus,
}

/// Whether a session can work, and does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct SessionStatus {
    /// Every configured MCP server is connected (false when none is configured).
    pub mcp_connected: bool,
    /// The session's provider is configured, so that a message can be answered.
    pub agent_ready: bool,
    /// A run is in progress.
    pub is_processing: bool,
}

/// See [`TransientEvent::Gap`].
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Gap)]
pub struct StreamGap {
    /// The `after` that was asked for, or had been reached.
    pub requested: u64,
    /// The seq of the oldest event that is kept.
    pub oldest_seq: u64,
}

/// See [`TransientEvent::Snapshot`].
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Snapshot)]
pub struct SessionSnapshot {
    /// The snapshot holds all events up to this one; the stream goes on with the next.
    pub as_of_seq: u64,
    /// The conversation.
    #[schema(value_type = Vec<ChatMessage>)]
    pub messages: Vec<Arc<ChatMessage>>,
    /// The settings.
    pub settings: SessionSettings,
    /// The approvals that wait for an answer.
    pub pending_approvals: Vec<ApprovalRequested>,
    /// The questions of MCP servers that wait for an answer.
    pub pending_inputs: Vec<InputRequested>,
    /// The run in progress.
    pub open_run: Option<RunId>,
}

impl From<&SessionState> for SessionSnapshot {
    fn from(state: &SessionState) -> Self {
        Self {
            as_of_seq: state.last_seq(),
            messages: state.messages.clone(),
            settings: state.summary.settings.clone(),
            pending_approvals: state.pending_approvals().cloned().collect(),
            pending_inputs: state.pending_inputs().cloned().collect(),
            open_run: state.summary.open_run,
        }
    }
}

/// A piece of text of an open message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TextDelta {
    /// The message; its `assistant_message` will have the same.
    pub message_id: MessageId,
    /// The run.
    pub run_id: RunId,
    /// Bytes of UTF-8 text that came before. 0: start this text anew; else append.
    pub offset: usize,
    /// The piece.
    pub content: String,
}

/// A piece of what is seen before it is logged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum MessagePreview {
    /// Text of the open message.
    Token(TextDelta),
    /// Reasoning of the open message.
    Reasoning(TextDelta),
}

impl MessagePreview {
    /// The message that it is a piece of.
    #[must_use]
    pub fn message_id(&self) -> MessageId {
        let (Self::Token(delta) | Self::Reasoning(delta)) = self;
        delta.message_id
    }
}

/// See [`TransientEvent::ToolProgress`].
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ToolProgress {
    /// The call.
    pub tool_call_id: ToolCallId,
    /// The run.
    pub run_id: RunId,
    /// How far.
    pub progress: f64,
    /// Of how much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<f64>,
    /// In words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl StreamFrame {
    /// The value of the JSON's `type`, and of the SSE `event:` line.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Event(event) => event.body.kind(),
            Self::Transient(TransientEvent::Hello(_)) => "hello",
            Self::Transient(TransientEvent::Gap(_)) => "gap",
            Self::Transient(TransientEvent::Snapshot(_)) => "snapshot",
            Self::Transient(TransientEvent::Token(_)) => "token",
            Self::Transient(TransientEvent::Reasoning(_)) => "reasoning",
            Self::Transient(TransientEvent::ToolProgress(_)) => "tool_progress",
            Self::Transient(TransientEvent::Warning(_)) => "warning",
        }
    }

    /// The seq, for logged events.
    #[must_use]
    pub fn seq(&self) -> Option<u64> {
        match self {
            Self::Event(event) => Some(event.seq),
            Self::Transient(_) => None,
        }
    }

    /// The run that it belongs to.
    #[must_use]
    pub fn run_id(&self) -> Option<RunId> {
        match self {
            Self::Event(event) => event.run_id,
            Self::Transient(TransientEvent::Token(t) | TransientEvent::Reasoning(t)) => Some(t.run_id),
            Self::Transient(TransientEvent::ToolProgress(p)) => Some(p.run_id),
            Self::Transient(
                TransientEvent::Hello(_)
                | TransientEvent::Gap(_)
                | TransientEvent::Snapshot(_)
                | TransientEvent::Warning(_),
            ) => None,
        }
    }

    /// The frame as one line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        match self {
            Self::Event(event) => serde_json::to_string(event),
            Self::Transient(transient) => serde_json::to_string(transient),
        }
        .expect("frames have string keys and no failing Serialize")
    }
}
