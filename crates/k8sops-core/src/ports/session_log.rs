//! The port [`SessionLog`]: the events of sessions.

use std::sync::Arc;

use async_trait::async_trait;

use super::{LeaseEpoch, StoreError};
use crate::{event::SessionEvent, ids::SessionId, state::SessionState, summary::SessionSummary};

/// One atomic write of a session's owner: all of it takes effect, or nothing.
#[derive(Debug, Clone, Copy)]
pub struct LogCommit<'a> {
    /// The session to write to.
    pub session: SessionId,
    /// The writer's epoch.
    pub epoch: LeaseEpoch,
    /// The seq at which the writer expects the log to end.
    pub expected_seq: u64,
    /// The next events: the first has the seq `expected_seq + 1`, the rest follow without gaps. Empty if the commit only
    /// consumes commands or writes a checkpoint.
    pub events: &'a [Arc<SessionEvent>],
    /// Positions of the inbox entries that this write handles and removes.
    pub consumed: &'a [u64],
    /// The summary after these events.
    pub summary: &'a SessionSummary,
    /// A checkpoint to keep, as of `expected_seq`: before these events.
    pub checkpoint: Option<&'a SessionState>,
}

/// Consecutive events that were read from a log.
#[derive(Debug, Clone, Default)]
pub struct EventPage {
    /// The events, without gaps. Empty only if the log has no events after the cursor.
    pub events: Vec<Arc<SessionEvent>>,
    /// The seq of the newest event in the log.
    pub last_seq: u64,
    /// The seq of the oldest event that is kept.
    pub oldest_seq: u64,
}

/// The logs of sessions.
#[async_trait]
pub trait SessionLog: Send + Sync + 'static {
    /// Creates a session with its first event, which must be a `session_created` with seq 1. Fails with `Exists` if the id
    /// is taken.
    async fn create_session(&self, created: &SessionEvent) -> Result<(), StoreError>;

    /// Appends events and consumes commands; the one way to write to a log. After `Fenced`, `SeqConflict` or `NotFound`
    /// nothing was written, and nothing will be.
    async fn commit_events(&self, commit: LogCommit<'_>) -> Result<(), StoreError>;

    /// Reads events after the seq `after`, at most `limit` (and at least one, if there is one). An `after` before the
    /// oldest event that is kept reads from that one; an `after` beyond the end of the log reads an empty page.
    async fn read_events(&self, session: SessionId, after: u64, limit: usize) -> Result<EventPage, StoreError>;

    /// The newest checkpoint, if one was kept.
    async fn read_checkpoint(&self, session: SessionId) -> Result<Option<SessionState>, StoreError>;
}
