//! What spans sessions: the list of each user, the schedule of sessions that may have work, and the sessions that await an
//! approval.
//!
//! These keys are on other nodes than the keys of a session, so no write here is atomic with a write to a session. The
//! order of writes makes up for it: an entry is added before its session exists, and removed after the session is gone.
//! An entry without a session is removed when it is read.

use std::{sync::Arc, time::Duration};

use super::{
    connection::SharedConnection,
    encoding::parse_json,
    keys::RedisKeys,
    lost_keys::explain_missing_session,
    scripts::{ClaimDueSessions, ClaimReply, ScheduleSession, UnscheduleIfUnchanged},
};
use k8sops_core::{ClaimedSessions, ListCursor, OwnSessions, SessionId, SessionSummary, StoreError, Timestamp, UserId};

/// An entry without a session is kept for this many milliseconds: its session may be about to be created.
const STALE_ENTRY_AGE_MS: i64 = 60_000;
/// How many sessions are claimed at a time.
const CLAIM_LIMIT: usize = 100;
/// A claimed session that is not unscheduled is due again after this. A take-over can be this much later than the end
/// of the lease: a claim just before that end finds the session held, and moves its time, which only grows, by this
/// much.
const CLAIM_RETRY_AFTER: Duration = Duration::from_millis(250);
/// How many list entries are read at a time.
const PAGE_SIZE: usize = 256;

/// Whether the list of a user was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListUpdate {
    Updated,
    /// The list does not have the session, or has it with the same time.
    Unchanged,
}

/// What spans sessions.
pub(super) struct RedisSessionRegistry {
    connection: Arc<SharedConnection>,
    /// For lists and counts, which must not delay commits.
    reads: Arc<SharedConnection>,
    keys: RedisKeys,
}

impl RedisSessionRegistry {
    pub(super) fn new(connection: Arc<SharedConnection>, reads: Arc<SharedConnection>, keys: RedisKeys) -> Self {
        Self { connection, reads, keys }
    }

    /// Fails unless Redis accepts writes.
    pub(super) async fn check_writable(&self) -> Result<(), StoreError> {
        // Updates an entry that cannot exist. A command that could add something is refused when the memory is full.
        self.connection.query(redis::cmd("ZADD").arg(self.keys.work_schedule()).arg("XX").arg(0).arg("-")).await
    }

    /// Adds a session to the list of its user.
    pub(super) async fn add_session(&self, summary: &SessionSummary) -> Result<(), StoreError> {
        let mut add = redis::cmd("ZADD");
        add.arg(self.keys.user_sessions(&summary.user_id));
        add.arg(summary.updated_at.as_millis()).arg(summary.session_id.to_string());
        self.connection.query(&add).await
    }

    /// Updates the last activity of a session in the list of its user, if the list has the session.
    pub(super) async fn touch_session(&self, summary: &SessionSummary) -> Result<ListUpdate, StoreError> {
        let mut update = redis::cmd("ZADD");
        update.arg(self.keys.user_sessions(&summary.user_id)).arg("XX").arg("CH");
        update.arg(summary.updated_at.as_millis()).arg(summary.session_id.to_string());
        let changed: bool = self.connection.query(&update).await?;
        Ok(if changed { ListUpdate::Updated } else { ListUpdate::Unchanged })
    }

    /// Removes a session from the list of a user.
    pub(super) async fn remove_session(&self, user: &UserId, session: SessionId) -> Result<(), StoreError> {
        self.connection.query(redis::cmd("ZREM").arg(self.keys.user_sessions(user)).arg(session.to_string())).await
    }

    /// Records when the last pending approval of a session expires.
    pub(super) async fn record_approval_deadline(
        &self,
        session: SessionId,
        deadline: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let key = self.keys.approvals();
        let name = session.to_string();
        match deadline {
            Some(deadline) => {
                self.connection.query(redis::cmd("ZADD").arg(&key).arg(deadline.as_millis()).arg(name)).await
            }
            None => self.connection.query(redis::cmd("ZREM").arg(&key).arg(name)).await,
        }
    }

    /// Sessions with pending approvals, those that expire first.
    pub(super) async fn sessions_awaiting_approval(&self, limit: usize) -> Result<Vec<SessionId>, StoreError> {
        let key = self.keys.approvals();
        let now = Timestamp::now().as_millis();
        let _: usize = self.connection.query(redis::cmd("ZREMRANGEBYSCORE").arg(&key).arg("-inf").arg(now)).await?;
        let mut range = redis::cmd("ZRANGE");
        range.arg(&key).arg(0).arg(limit.saturating_sub(1));
        let sessions: Vec<String> = self.reads.query(&range).await?;
        Ok(sessions.iter().filter_map(|session| session.parse().ok()).collect())
    }

    pub(super) async fn session_count(&self, user: &UserId) -> Result<usize, StoreError> {
        self.reads.query(redis::cmd("ZCARD").arg(self.keys.user_sessions(user))).await
    }

    /// Sessions of a user, the latest activity first.
    pub(super) async fn user_sessions(
        &self,
        user: &UserId,
        after: Option<ListCursor>,
        limit: usize,
    ) -> Result<Vec<SessionSummary>, StoreError> {
        let key = self.keys.user_sessions(user);
        let mut listed: Vec<SessionSummary> = Vec::new();
        let newest = after.map_or_else(|| "+inf".to_owned(), |cursor| cursor.updated_at.as_millis().to_string());
        let mut offset = 0;
        while listed.len() < limit {
            let mut page = redis::cmd("ZREVRANGEBYSCORE");
            page.arg(&key).arg(&newest).arg("-inf").arg("WITHSCORES").arg("LIMIT").arg(offset).arg(PAGE_SIZE);
            let entries: Vec<(String, i64)> = self.reads.query(&page).await?;
            let is_last_page = entries.len() < PAGE_SIZE;
            offset += entries.len();
            // Sessions of the same millisecond as the cursor may have been listed before.
            let was_listed =
                |id: SessionId, at: i64| after.is_some_and(|c| at == c.updated_at.as_millis() && id >= c.session_id);
            let entries: Vec<(SessionId, i64)> = entries
                .iter()
                .filter_map(|(id, at)| Some((id.parse().ok()?, *at)))
                .filter(|(id, at)| !was_listed(*id, *at))
                .take(limit - listed.len())
                .collect();
            // Each session is on a node of its own, so these are concurrent commands and not one pipeline.
            let summaries = entries.iter().map(|(session, _)| self.read_summary(&self.reads, *session));
            let summaries = futures_util::future::join_all(summaries).await;
            for ((session, at), stored) in entries.iter().zip(summaries) {
                match stored {
                    Ok(StoredSummary { summary: Some(summary), has_log }) if summary.user_id == *user => {
                        let listed_at = Timestamp::from_millis(*at);
                        if summary.updated_at != listed_at {
                            // An update of the list was lost, or is under way.
                            self.touch_session(&summary).await?;
                        }
                        // The cursor of the next page is made of this time, and must be the one by which the list is sorted.
                        let summary = SessionSummary { updated_at: listed_at, ..summary };
                        listed.push(if has_log { summary } else { without_work(summary) });
                    }
                    Ok(StoredSummary { summary: None, has_log: true }) => {
                        tracing::debug!(%session, "session without its head left out of a list");
                    }
                    Ok(_) => self.remove_stale_entry(user, *session, *at).await?,
                    // One damaged session must not hide the others. A request for itself says what is wrong.
                    Err(error @ StoreError::Corrupt(_)) => {
                        tracing::debug!(%session, %error, "session left out of a list");
                    }
                    Err(error) => return Err(error),
                }
            }
            if is_last_page {
                break;
            }
        }
        Ok(listed)
    }

    async fn remove_stale_entry(&self, user: &UserId, session: SessionId, at: i64) -> Result<(), StoreError> {
        if at < Timestamp::now().as_millis() - STALE_ENTRY_AGE_MS {
            self.remove_session(user, session).await
        } else {
            Ok(())
        }
    }

    /// The user of a session.
    pub(super) async fn session_user(&self, session: SessionId) -> Result<Option<UserId>, StoreError> {
        let user: Option<String> =
            self.connection.query(redis::cmd("HGET").arg(self.keys.meta(session)).arg("user")).await?;
        let read = |user: String| user.parse().map_err(|error| StoreError::corrupt("the user of a session", error));
        user.map(read).transpose()
    }

    /// Whether the list of a user has a session.
    pub(super) async fn is_listed(&self, user: &UserId, session: SessionId) -> Result<bool, StoreError> {
        let mut find = redis::cmd("ZSCORE");
        find.arg(self.keys.user_sessions(user)).arg(session.to_string());
        Ok(self.connection.query::<Option<String>>(&find).await?.is_some())
    }

    /// The current summary of a session.
    pub(super) async fn session_summary(&self, session: SessionId) -> Result<Option<SessionSummary>, StoreError> {
        match self.read_summary(&self.connection, session).await? {
            StoredSummary { summary: Some(summary), has_log: true } => Ok(Some(summary)),
            StoredSummary { summary: None, has_log: false } => Ok(None),
            _ => match self.missing_session(session).await {
                StoreError::NotFound(_) => Ok(None),
                error => Err(error),
            },
        }
    }

    /// The error of a session of which a key was not found.
    pub(super) async fn missing_session(&self, session: SessionId) -> StoreError {
        explain_missing_session(&self.connection, &self.keys, session).await
    }

    async fn read_summary(
        &self,
        connection: &SharedConnection,
        session: SessionId,
    ) -> Result<StoredSummary, StoreError> {
        let mut read = redis::pipe();
        read.cmd("EXISTS").arg(self.keys.log(session));
        read.cmd("HMGET").arg(self.keys.meta(session)).arg("summary").arg("waiting");
        let (has_log, (summary, queued_messages)): (bool, (Option<String>, Option<u64>)) =
            connection.query(&read).await?;
        let waiting = queued_messages.is_some_and(|messages| messages > 0);
        let summary: Option<SessionSummary> = summary.map(|text| parse_json("a session summary", &text)).transpose()?;
        Ok(StoredSummary { summary: summary.map(|summary| SessionSummary { waiting, ..summary }), has_log })
    }

    /// Schedules a session to be claimed after `delay`.
    pub(super) async fn schedule_session(&self, session: SessionId, delay: Duration) -> Result<(), StoreError> {
        let schedule =
            ScheduleSession { work_key: self.keys.work_schedule(), session: session.to_string(), delay_ms: delay };
        self.connection.run_script(&schedule).await
    }

    /// When a session is due, as Redis writes it.
    pub(super) async fn scheduled_time(&self, session: SessionId) -> Result<Option<String>, StoreError> {
        self.connection.query(redis::cmd("ZSCORE").arg(self.keys.work_schedule()).arg(session.to_string())).await
    }

    /// Removes a session that does not exist from the schedule.
    pub(super) async fn unschedule_session(&self, session: SessionId) -> Result<(), StoreError> {
        self.connection.query(redis::cmd("ZREM").arg(self.keys.work_schedule()).arg(session.to_string())).await
    }

    /// Removes a session without work from the schedule, unless it was scheduled again after `scheduled_at` was read.
    pub(super) async fn unschedule_if_unchanged(
        &self,
        session: SessionId,
        scheduled_at: String,
    ) -> Result<(), StoreError> {
        let unschedule =
            UnscheduleIfUnchanged { work_key: self.keys.work_schedule(), session: session.to_string(), scheduled_at };
        self.connection.run_script(&unschedule).await
    }

    /// Offers a session with unfinished work to all replicas.
    pub(super) async fn offer_session(&self, session: SessionId) -> Result<(), StoreError> {
        self.schedule_session(session, Duration::ZERO).await?;
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(self.keys.work_channel()).arg(session.to_string());
        // The offer is made: replicas look at the schedule every second.
        if let Err(error) = self.connection.query::<()>(&publish).await {
            tracing::debug!(%session, %error, "offer of a session not published");
        }
        Ok(())
    }

    /// Claims sessions that are due, except those of the caller.
    pub(super) async fn claim_due_sessions(&self, own: OwnSessions<'_>) -> Result<ClaimedSessions, StoreError> {
        let claim = ClaimDueSessions {
            work_key: self.keys.work_schedule(),
            limit: CLAIM_LIMIT,
            retry_after_ms: CLAIM_RETRY_AFTER,
            keep_ms: own.keep,
            own_sessions: own.sessions.iter().map(SessionId::to_string).collect(),
        };
        let ClaimReply { sessions, next_due_ms } = self.connection.run_script(&claim).await?;
        Ok(ClaimedSessions {
            sessions: sessions.iter().filter_map(|session| session.parse().ok()).collect(),
            next_due: next_due_ms.map(Duration::from_millis),
        })
    }
}

/// What the keys of a session say of it.
struct StoredSummary {
    summary: Option<SessionSummary>,
    has_log: bool,
}

/// A session whose log is gone does nothing any more. It is listed, so that its user can delete it.
fn without_work(summary: SessionSummary) -> SessionSummary {
    SessionSummary { open_run: None, waiting: false, ..summary }
}
