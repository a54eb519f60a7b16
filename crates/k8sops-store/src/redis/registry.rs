//! What spans sessions: the list of each user, the schedule of sessions that may have work, and the sessions that await an
//! approval.
//!
//! These keys are on other nodes than the keys of a session, so no write here is atomic with a write to a session. The
//! order of writes makes up for it: an entry is added before its session exists, and removed after the session is gone.
//! An entry without a session is removed when it is read.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{
    connection::SharedConnection,
    encoding::parse_json,
    keys::RedisKeys,
    lost_keys::{
        LogExtent, SmallFields, add_integrity_checks, explain_missing_session, has_required_fields, missing_log,
        name_foreign_key, of_shared_key,
    },
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
/// A session is never scheduled further ahead than this: the longest delay is what is left of a lease, of which
/// `acquire_lease.lua` believes at most four times its duration.
const LONGEST_DELAY: Duration = Duration::from_secs(20);
/// How often a summary is read while the session changes.
const LOOK_ATTEMPTS: usize = 16;
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
    /// Whether the key of the deployment was there when it was last looked for.
    has_deployment_key: AtomicBool,
}

impl RedisSessionRegistry {
    pub(super) fn new(connection: Arc<SharedConnection>, reads: Arc<SharedConnection>, keys: RedisKeys) -> Self {
        Self { connection, reads, keys, has_deployment_key: AtomicBool::default() }
    }

    /// Fails unless Redis accepts writes.
    pub(super) async fn check_writable(&self) -> Result<(), StoreError> {
        // Updates an entry that cannot exist. A command that could add something is refused when the memory is full.
        let key = self.keys.work_schedule();
        let update = self.connection.query::<()>(redis::cmd("ZADD").arg(&key).arg("XX").arg(0).arg("-")).await;
        update.map_err(of_shared_key(&key))?;
        // What a replica reads when it starts, or when a client asks for its approvals.
        let key = self.keys.approvals();
        self.reads.query::<u64>(redis::cmd("ZCARD").arg(&key)).await.map_err(of_shared_key(&key))?;
        let key = self.keys.deployment_key();
        let length: u64 = self.reads.query(redis::cmd("STRLEN").arg(&key)).await.map_err(of_shared_key(&key))?;
        self.record_deployment_key(length > 0);
        Ok(())
    }

    /// Records whether the key of the deployment was found, and logs once that the store was emptied: nothing else removes it.
    pub(super) fn record_deployment_key(&self, exists: bool) {
        let existed = self.has_deployment_key.swap(exists, Ordering::Relaxed);
        if existed && !exists {
            let key = self.keys.deployment_key();
            tracing::warn!(
                key,
                "store was emptied, sessions are gone: restart all replicas, so that they share a key again"
            );
        }
    }

    /// Adds a session to the list of its user.
    pub(super) async fn add_session(&self, summary: &SessionSummary) -> Result<(), StoreError> {
        let key = self.keys.user_sessions(&summary.user_id);
        let mut add = redis::cmd("ZADD");
        add.arg(&key).arg(summary.updated_at.as_millis()).arg(summary.session_id.to_string());
        self.connection.query(&add).await.map_err(of_shared_key(&key))
    }

    /// Updates the last activity of a session in the list of its user, if the list has the session.
    pub(super) async fn touch_session(&self, summary: &SessionSummary) -> Result<ListUpdate, StoreError> {
        let key = self.keys.user_sessions(&summary.user_id);
        let mut update = redis::cmd("ZADD");
        update.arg(&key).arg("XX").arg("CH").arg(summary.updated_at.as_millis()).arg(summary.session_id.to_string());
        let changed: bool = self.connection.query(&update).await.map_err(of_shared_key(&key))?;
        Ok(if changed { ListUpdate::Updated } else { ListUpdate::Unchanged })
    }

    /// Removes a session from the list of a user.
    pub(super) async fn remove_session(&self, user: &UserId, session: SessionId) -> Result<(), StoreError> {
        let key = self.keys.user_sessions(user);
        let removed = self.connection.query(redis::cmd("ZREM").arg(&key).arg(session.to_string())).await;
        removed.map_err(of_shared_key(&key))
    }

    /// Records when the last pending approval of a session expires.
    pub(super) async fn record_approval_deadline(
        &self,
        session: SessionId,
        deadline: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let key = self.keys.approvals();
        let name = session.to_string();
        let recorded = match deadline {
            Some(deadline) => {
                self.connection.query(redis::cmd("ZADD").arg(&key).arg(deadline.as_millis()).arg(name)).await
            }
            None => self.connection.query(redis::cmd("ZREM").arg(&key).arg(name)).await,
        };
        recorded.map_err(of_shared_key(&key))
    }

    /// Sessions with pending approvals, those that expire first.
    pub(super) async fn sessions_awaiting_approval(&self, limit: usize) -> Result<Vec<SessionId>, StoreError> {
        let key = self.keys.approvals();
        let now = Timestamp::now().as_millis();
        let removed = self.connection.query::<()>(redis::cmd("ZREMRANGEBYSCORE").arg(&key).arg("-inf").arg(now)).await;
        removed.map_err(of_shared_key(&key))?;
        let mut range = redis::cmd("ZRANGE");
        range.arg(&key).arg(0).arg(limit.saturating_sub(1));
        let sessions: Vec<String> = self.reads.query(&range).await?;
        Ok(sessions.iter().filter_map(|session| session.parse().ok()).collect())
    }

    pub(super) async fn session_count(&self, user: &UserId) -> Result<usize, StoreError> {
        let key = self.keys.user_sessions(user);
        self.reads.query(redis::cmd("ZCARD").arg(&key)).await.map_err(of_shared_key(&key))
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
            let entries: Vec<(String, i64)> = self.reads.query(&page).await.map_err(of_shared_key(&key))?;
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
                let summary = match stored {
                    // One damaged session must not hide the others. A request for itself says what is wrong.
                    Err(error @ StoreError::Corrupt(_)) => {
                        tracing::debug!(%session, %error, "damaged session in a list");
                        match self.summary_of_damaged(*session).await? {
                            Some(summary) => summary,
                            None => continue,
                        }
                    }
                    Ok(Some(summary)) => summary,
                    Ok(None) => {
                        self.remove_stale_entry(user, *session, *at).await?;
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                if summary.user_id != *user {
                    self.remove_stale_entry(user, *session, *at).await?;
                    continue;
                }
                let listed_at = Timestamp::from_millis(*at);
                if summary.updated_at != listed_at {
                    // An update of the list was lost, or is under way.
                    self.touch_session(&summary).await?;
                }
                // The cursor of the next page is made of this time, and must be the one by which the list is sorted.
                listed.push(SessionSummary { updated_at: listed_at, ..summary });
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
        let key = self.keys.user_sessions(user);
        let mut find = redis::cmd("ZSCORE");
        find.arg(&key).arg(session.to_string());
        let found: Option<String> = self.connection.query(&find).await.map_err(of_shared_key(&key))?;
        Ok(found.is_some())
    }

    /// The current summary of a session.
    pub(super) async fn session_summary(&self, session: SessionId) -> Result<Option<SessionSummary>, StoreError> {
        self.read_summary(&self.connection, session).await
    }

    /// The error of a session of which a script or a look did not find what it needs.
    pub(super) async fn missing_session(&self, session: SessionId) -> StoreError {
        let found = explain_missing_session(&self.connection, &self.keys, session).await;
        if let Some(StoreError::NotFound(_)) = &found
            && let Ok(exists) = self.reads.query(redis::cmd("EXISTS").arg(self.keys.deployment_key())).await
        {
            self.record_deployment_key(exists);
        }
        found.unwrap_or_else(|| StoreError::Unavailable(format!("session {session} changed while it was read").into()))
    }

    /// Reads a summary, and checks what can be checked of the session's keys without reading all of them.
    async fn read_summary(
        &self,
        connection: &SharedConnection,
        session: SessionId,
    ) -> Result<Option<SessionSummary>, StoreError> {
        let mut look = redis::pipe();
        look.cmd("HMGET").arg(self.keys.meta(session)).arg(EXTENT_FIELDS);
        look.cmd("HMGET").arg(self.keys.meta(session)).arg(&["summary", "waiting"]);
        look.cmd("EXISTS").arg(self.keys.log(session)).cmd("XLEN").arg(self.keys.log(session));
        look.cmd("HMGET").arg(self.keys.meta(session)).arg(EXTENT_FIELDS);
        add_integrity_checks(&mut look, &self.keys, session);
        for _ in 0..LOOK_ATTEMPTS {
            let found = connection.query(&look).await;
            let (before, (summary, waiting), has_log, length, extent, .., small_fields, has_summary): SummaryReplies =
                match found {
                    Ok(found) => found,
                    Err(error) => return Err(name_foreign_key(connection, &self.keys, session, error).await),
                };
            if before != extent {
                // A commit came in between.
                continue;
            }
            let (oldest_seq, last_seq, log_extent) = extent;
            let is_whole = has_log && has_required_fields(&small_fields, has_summary);
            let (Some(summary), Some(oldest_seq), Some(last_seq), true) = (summary, oldest_seq, last_seq, is_whole)
            else {
                match explain_missing_session(connection, &self.keys, session).await {
                    Some(StoreError::NotFound(_)) => return Ok(None),
                    Some(error) => return Err(error),
                    None => continue,
                }
            };
            // With all events in a checkpoint, the log is empty.
            if length == 0 && oldest_seq <= last_seq {
                return Err(missing_log(session));
            }
            if let Some(extent) = log_extent.as_deref().and_then(LogExtent::parse) {
                extent.check(session, oldest_seq, last_seq, length)?;
            }
            let summary: SessionSummary = parse_json("a session summary", &summary)?;
            return Ok(Some(SessionSummary { waiting: waiting.is_some_and(|messages| messages > 0), ..summary }));
        }
        Err(StoreError::Unavailable(format!("session {session} changed in {LOOK_ATTEMPTS} looks").into()))
    }

    /// The last summary of a session that is damaged, if that can be read. It is listed, so that its user can delete it, and
    /// does nothing any more.
    async fn summary_of_damaged(&self, session: SessionId) -> Result<Option<SessionSummary>, StoreError> {
        let stored = self.reads.query(redis::cmd("HGET").arg(self.keys.meta(session)).arg("summary")).await;
        let stored: Option<String> = match stored {
            Err(StoreError::Corrupt(_)) => None,
            stored => stored?,
        };
        let summary = stored.and_then(|json| parse_json("a session summary", &json).ok());
        Ok(summary.map(|summary: SessionSummary| SessionSummary { open_run: None, waiting: false, ..summary }))
    }

    /// Schedules a session to be claimed after `delay`.
    pub(super) async fn schedule_session(&self, session: SessionId, delay: Duration) -> Result<(), StoreError> {
        let schedule =
            ScheduleSession { work_key: self.keys.work_schedule(), session: session.to_string(), delay_ms: delay };
        self.connection.run_script(&schedule).await.map_err(of_shared_key(&schedule.work_key))
    }

    /// When a session is due, as Redis writes it.
    pub(super) async fn scheduled_time(&self, session: SessionId) -> Result<Option<String>, StoreError> {
        let key = self.keys.work_schedule();
        let found = self.connection.query(redis::cmd("ZSCORE").arg(&key).arg(session.to_string())).await;
        found.map_err(of_shared_key(&key))
    }

    /// Removes a session that does not exist from the schedule.
    pub(super) async fn unschedule_session(&self, session: SessionId) -> Result<(), StoreError> {
        let key = self.keys.work_schedule();
        let removed = self.connection.query(redis::cmd("ZREM").arg(&key).arg(session.to_string())).await;
        removed.map_err(of_shared_key(&key))
    }

    /// Removes a session without work from the schedule, unless it was scheduled again after `scheduled_at` was read.
    pub(super) async fn unschedule_if_unchanged(
        &self,
        session: SessionId,
        scheduled_at: String,
    ) -> Result<(), StoreError> {
        let unschedule =
            UnscheduleIfUnchanged { work_key: self.keys.work_schedule(), session: session.to_string(), scheduled_at };
        self.connection.run_script(&unschedule).await.map_err(of_shared_key(&unschedule.work_key))
    }

    /// Offers a session with unfinished work to all replicas.
    pub(super) async fn offer_session(&self, session: SessionId) -> Result<(), StoreError> {
        self.schedule_session(session, Duration::ZERO).await?;
        let publish = self.keys.publish(self.keys.work_channel(), &session.to_string());
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
            longest_delay_ms: LONGEST_DELAY.max(own.keep),
            keep_ms: own.keep,
            own_sessions: own.sessions.iter().map(SessionId::to_string).collect(),
        };
        let claimed = self.connection.run_script(&claim).await;
        let ClaimReply { sessions, next_due_ms } = claimed.map_err(of_shared_key(&claim.work_key))?;
        Ok(ClaimedSessions {
            sessions: sessions.iter().filter_map(|session| session.parse().ok()).collect(),
            next_due: next_due_ms.map(Duration::from_millis),
        })
    }
}

/// The fields of a session's hash that say how its log must be. They are read before and after it.
const EXTENT_FIELDS: &[&str] = &["oldest_seq", "last_seq", "log_extent"];
/// The values of [`EXTENT_FIELDS`].
type ExtentFields = (Option<u64>, Option<u64>, Option<String>);
/// What [`RedisSessionRegistry::read_summary`] reads.
type SummaryReplies =
    (ExtentFields, (Option<String>, Option<i64>), bool, u64, ExtentFields, u64, u64, u64, SmallFields, bool);
