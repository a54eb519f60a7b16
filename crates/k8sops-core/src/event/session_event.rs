//! An event in the log, and one on its way there.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{EventBody, MemoryRecalled, MemorySaved, ServersIntroduced};
use crate::{
    attachment::attachment_bytes,
    ids::{RunId, SessionId},
    message::ProviderData,
    time::Timestamp,
};

/// A logged event. The log of a session is append-only, and its events are numbered by `seq` without gaps, except before a
/// `log_truncated`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Event)]
pub struct SessionEvent {
    /// The position in the session's log: 1 for the first event, then without gaps, except before a `log_truncated`.
    pub seq: u64,
    /// The session that the event belongs to.
    pub session_id: SessionId,
    /// When the event was logged.
    pub ts: Timestamp,
    /// The run that the event belongs to; absent outside of runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// What happened.
    #[serde(flatten)]
    pub body: EventBody,
}

impl SessionEvent {
    /// The approximate size in bytes when it is stored, which decides when a checkpoint is written.
    #[must_use]
    pub fn estimated_bytes(&self) -> u64 {
        let content = match &self.body {
            EventBody::UserMessage(e) => e.content.len() + attachment_bytes(&e.attachments),
            EventBody::AssistantMessage(e) => {
                e.content.len()
                    + e.reasoning.as_ref().map_or(0, String::len)
                    + e.provider_data.as_ref().map_or(0, ProviderData::estimated_bytes)
            }
            EventBody::ToolEnd(e) => e.content.len(),
            EventBody::ContextCompacted(e) => e.summary.len(),
            EventBody::MemoryRecalled(MemoryRecalled { memories })
            | EventBody::MemorySaved(MemorySaved { memories, .. }) => {
                memories.iter().map(|note| note.content.len()).sum()
            }
            EventBody::ServersIntroduced(ServersIntroduced { servers }) => {
                servers.iter().filter_map(|server| server.instructions.as_ref()).map(String::len).sum()
            }
            _ => 0,
        };
        256 + content as u64
    }
}

/// An event that is not in the log yet and has no seq.
#[derive(Debug, Clone, PartialEq)]
pub struct EventDraft {
    /// When it happened.
    pub ts: Timestamp,
    /// The run that it belongs to.
    pub run_id: Option<RunId>,
    /// What happened.
    pub body: EventBody,
}

impl EventDraft {
    /// An event that happens now, outside of runs.
    #[must_use]
    pub fn new(body: EventBody) -> Self {
        Self { ts: Timestamp::now(), run_id: None, body }
    }

    /// An event that happens now, in a run.
    #[must_use]
    pub fn in_run(run_id: RunId, body: EventBody) -> Self {
        Self { ts: Timestamp::now(), run_id: Some(run_id), body }
    }

    /// The event with its position in a session's log.
    #[must_use]
    pub fn into_event(self, session_id: SessionId, seq: u64) -> SessionEvent {
        SessionEvent { seq, session_id, ts: self.ts, run_id: self.run_id, body: self.body }
    }
}
