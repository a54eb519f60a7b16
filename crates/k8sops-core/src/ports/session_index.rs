//! The port [`SessionIndex`]: what spans sessions.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use crate::{
    ids::{SessionId, UserId},
    summary::SessionSummary,
    time::Timestamp,
};

/// A position in a list of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListCursor {
    /// [`SessionSummary::updated_at`] of the last session that was listed.
    pub updated_at: Timestamp,
    /// The id of that session.
    pub session_id: SessionId,
}

/// What [`SessionIndex::delete_idle_session`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleDeletion {
    /// The session was idle and is deleted.
    Deleted,
    /// The session has an open run or commands in its inbox, and was kept.
    Busy,
}

/// The sessions that a caller of [`SessionIndex::claim_unfinished_sessions`] owns: no caller claims them for a while.
#[derive(Debug, Clone, Copy, Default)]
pub struct OwnSessions<'a> {
    /// The sessions.
    pub sessions: &'a [SessionId],
    /// For how long they are not claimed: as long as their leases.
    pub keep: Duration,
}

/// What [`SessionIndex::claim_unfinished_sessions`] claimed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClaimedSessions {
    /// The sessions, which the caller works on.
    pub sessions: Vec<SessionId>,
    /// After which time others can be claimed, as far as is known now; zero if there are more.
    pub next_due: Option<Duration>,
}

/// A session whose stored data cannot be read.
#[derive(Debug, Clone)]
pub struct DamagedSession {
    /// The session.
    pub session_id: SessionId,
    /// What was found when its data was read.
    pub error: StoreError,
}

/// The index of all sessions: summaries, lists, unfinished work, deletion.
#[async_trait]
pub trait SessionIndex: Send + Sync + 'static {
    /// The summary of a session; `None` if it does not exist. Fails with `Corrupt` if it exists and cannot be read.
    async fn read_summary(&self, session: SessionId) -> Result<Option<SessionSummary>, StoreError>;

    /// A user's sessions after `after`, newest activity first (on a tie, the greater id first). A store that can find
    /// sessions without reading them also lists those that cannot be read.
    async fn list_sessions(
        &self,
        user: &UserId,
        after: Option<ListCursor>,
        limit: usize,
    ) -> Result<Vec<SessionSummary>, StoreError>;

    /// Whether a session belongs to a user, also if it cannot be read.
    async fn is_session_of(&self, user: &UserId, session: SessionId) -> Result<bool, StoreError> {
        let mut after = None;
        loop {
            let page = self.list_sessions(user, after, 256).await?;
            if page.iter().any(|listed| listed.session_id == session) {
                return Ok(true);
            }
            let Some(last) = page.last() else { return Ok(false) };
            after = Some(ListCursor { updated_at: last.updated_at, session_id: last.session_id });
        }
    }

    /// Upper bound of the number of a user's sessions.
    async fn count_sessions(&self, user: &UserId) -> Result<usize, StoreError>;

    /// Deletes a session with all that belongs to it, including tool outputs. Fails with `NotFound` if it does not exist.
    async fn delete_session(&self, session: SessionId) -> Result<(), StoreError>;

    /// Deletes a session like [`Self::delete_session`], but only if it has no open run and an empty inbox. Atomic: a
    /// command that is accepted before keeps the session, and one that comes after fails with `NotFound`.
    async fn delete_idle_session(&self, session: SessionId) -> Result<IdleDeletion, StoreError>;

    /// Sessions that have work ([`SessionSummary::has_work`], or commands in the inbox) and, as far as is known, no owner.
    /// A store of several processes hands each session to one caller at a time, and again after a while if the work is
    /// still there.
    async fn claim_unfinished_sessions(&self, own: OwnSessions<'_>) -> Result<ClaimedSessions, StoreError>;

    /// Sessions that are known to be damaged, for `k8sops doctor`.
    async fn list_damaged_sessions(&self) -> Result<Vec<DamagedSession>, StoreError> {
        Ok(Vec::new())
    }
}
