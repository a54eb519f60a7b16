//! Frames: what a stream carries. Logged events, and a few transient events that are never logged.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    event::{ApprovalRequested, InputRequested, SessionEvent, SessionWarning},
    ids::{RunId, SessionId, ToolCallId},
    message::ChatMessage,
    preview::TextDelta,
    settings::SessionSettings,
    state::SessionState,
};

/// The version of the stream protocol, which `hello` reports.
pub const PROTOCOL_VERSION: u32 = 1;

/// A frame with a token is rarely longer.
const SMALL_FRAME_BYTES: usize = 256;

/// How much a frame repeats of what the client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameDetail {
    /// Each frame can be read alone.
    Full,
    /// The ids of a message come with the start of its text or reasoning, and are left out of what is appended to it.
    Compact,
}

/// One item of a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamFrame {
    /// A logged event.
    Event(Arc<SessionEvent>),
    /// An event that is never logged.
    Transient(TransientEvent),
}

/// An event that is streamed and never logged, and has no `seq`. The field `type` of the JSON names the variant.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Transient)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TransientEvent {
    /// The first frame of every stream.
    Hello(StreamHello),
    /// The stream cannot continue from its position; a `snapshot` follows.
    Gap(StreamGap),
    /// The state of the whole session.
    // Boxed, so that the frames of tokens, which are moved often, are small.
    Snapshot(Box<SessionSnapshot>),
    /// More text of a message that the model is writing.
    Token(TextDelta),
    /// More reasoning of the model before or within a message.
    Reasoning(TextDelta),
    /// Progress of a tool call.
    ToolProgress(ToolProgress),
    /// A warning that cannot be logged now (`store_unavailable`) or any more (`session_deleted`, the last frame of a
    /// stream). Unlike a logged warning it has no `seq`.
    Warning(SessionWarning),
}

/// The first frame of every stream.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Hello)]
pub struct StreamHello {
    /// The version of the stream protocol.
    pub protocol: u32,
    /// The session.
    pub session_id: SessionId,
    /// The seq of the newest logged event.
    pub last_seq: u64,
    /// The seq of the oldest event that is kept.
    pub oldest_seq: u64,
    /// The current status of the session.
    pub status: SessionStatus,
}

/// Whether a session is ready, and whether it is working.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct SessionStatus {
    /// All configured MCP servers are connected; false if none is configured.
    pub mcp_connected: bool,
    /// The session's provider is configured, so that a message can be answered.
    pub agent_ready: bool,
    /// A run is in progress.
    pub is_processing: bool,
}

/// Why a stream cannot continue from its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// The position is before the oldest event that is kept.
    NotKept,
    /// The store has lost the newest events, among them the one at the position. Everything that was received after the
    /// `as_of_seq` of the `snapshot` that follows is void.
    LogTruncated,
}

/// A gap between the position of a stream and where it continues.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Gap)]
pub struct StreamGap {
    /// The position (`after`) that was requested, or that the stream had reached.
    pub requested: u64,
    /// The seq of the oldest event that is kept.
    pub oldest_seq: u64,
    /// Why the stream cannot continue from its position.
    pub reason: GapReason,
}

/// The state of a session as of one event.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Snapshot)]
pub struct SessionSnapshot {
    /// The seq of the newest event that the snapshot includes; the stream continues with the next one.
    pub as_of_seq: u64,
    /// The conversation.
    #[schema(value_type = Vec<ChatMessage>)]
    pub messages: Vec<Arc<ChatMessage>>,
    /// The settings.
    pub settings: SessionSettings,
    /// The approvals that wait for a decision.
    pub pending_approvals: Vec<ApprovalRequested>,
    /// The MCP servers' requests for input that wait for an answer.
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

/// Progress of a tool call, as its MCP server reports it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ToolProgress {
    /// The tool call.
    pub tool_call_id: ToolCallId,
    /// The run that the call belongs to.
    pub run_id: RunId,
    /// The progress so far; it grows with every report.
    pub progress: f64,
    /// Upper bound of `progress`, if the server reports one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<f64>,
    /// A description of the progress, if the server reports one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl StreamFrame {
    /// The value of `type` in JSON, and of the `event:` line of SSE.
    #[must_use]
    pub fn event_type(&self) -> &'static str {
        match self {
            Self::Event(event) => event.body.event_type(),
            Self::Transient(TransientEvent::Hello(_)) => "hello",
            Self::Transient(TransientEvent::Gap(_)) => "gap",
            Self::Transient(TransientEvent::Snapshot(_)) => "snapshot",
            Self::Transient(TransientEvent::Token(_)) => "token",
            Self::Transient(TransientEvent::Reasoning(_)) => "reasoning",
            Self::Transient(TransientEvent::ToolProgress(_)) => "tool_progress",
            Self::Transient(TransientEvent::Warning(_)) => "warning",
        }
    }

    /// The seq of a logged event.
    #[must_use]
    pub fn seq(&self) -> Option<u64> {
        match self {
            Self::Event(event) => Some(event.seq),
            Self::Transient(_) => None,
        }
    }

    /// The run that the frame belongs to.
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

    /// The whole frame as one line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.encode_json(FrameDetail::Full)
    }

    /// The frame as one line of JSON.
    #[must_use]
    pub fn encode_json(&self, detail: FrameDetail) -> String {
        let mut json = Vec::with_capacity(SMALL_FRAME_BYTES);
        self.write_json(detail, &mut json);
        String::from_utf8(json).expect("JSON is UTF-8")
    }

    /// Appends the frame as one line of JSON.
    pub fn write_json(&self, detail: FrameDetail, out: &mut Vec<u8>) {
        match self {
            Self::Transient(TransientEvent::Token(delta) | TransientEvent::Reasoning(delta)) => {
                delta.write_json(self.event_type(), detail, out);
                return;
            }
            Self::Event(event) => serde_json::to_writer(out, event),
            Self::Transient(transient) => serde_json::to_writer(out, transient),
        }
        .expect("frames have string keys and no failing Serialize");
    }
}

impl TextDelta {
    /// Appends the delta as [`TransientEvent`] is serialized. Most frames are deltas: serde takes three times as many instructions,
    /// because it escapes ids.
    fn write_json(&self, event_type: &str, detail: FrameDetail, out: &mut Vec<u8>) {
        let Self { message_id, run_id, offset, content } = self;
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(event_type.as_bytes());
        if detail == FrameDetail::Full || *offset == 0 {
            out.extend_from_slice(b"\",\"message_id\":\"");
            message_id.append_to(out);
            out.extend_from_slice(b"\",\"run_id\":\"");
            run_id.append_to(out);
        }
        out.extend_from_slice(b"\",\"offset\":");
        serde_json::to_writer(&mut *out, offset).expect("a number is JSON");
        out.extend_from_slice(b",\"content\":");
        serde_json::to_writer(&mut *out, content).expect("a string is JSON");
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::MessageId;

    #[test]
    fn compact_frames_have_ids_once() {
        let (message_id, run_id) = (MessageId::new(), RunId::new());
        let frame = |offset| {
            let delta = TextDelta { message_id, run_id, offset, content: "a\"b".to_owned() };
            StreamFrame::Transient(TransientEvent::Reasoning(delta))
        };
        let json = |offset, detail| {
            let mut out = Vec::new();
            frame(offset).write_json(detail, &mut out);
            String::from_utf8(out).unwrap()
        };
        let full = format!(
            r#"{{"type":"reasoning","message_id":"{message_id}","run_id":"{run_id}","offset":7,"content":"a\"b"}}"#
        );
        assert_eq!(json(7, FrameDetail::Full), full);
        let StreamFrame::Transient(transient) = frame(7) else { panic!() };
        assert_eq!(serde_json::to_string(&transient).unwrap(), full);
        assert_eq!(json(0, FrameDetail::Compact), full.replace(":7,", ":0,"));
        assert_eq!(json(7, FrameDetail::Compact), r#"{"type":"reasoning","offset":7,"content":"a\"b"}"#);
    }
}
