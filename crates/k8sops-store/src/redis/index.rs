//! What spans sessions: each user's list, and the schedule of sessions that may have work.
//!
//! These keys are not on the node of a session's, so that nothing here is atomic with a session. The order of writing makes
//! up for it: an entry comes before what it stands for and goes after it. An entry that stands for nothing is dropped when
//! it is come across.

use std::{sync::Arc, time::Duration};

use super::{
    keys::Keys,
    link::Link,
    scripts::{Answer, SCRIPTS},
    summary,
};
use k8sops_core::{ListCursor, SessionId, SessionSummary, StoreError, Timestamp, UserId};

/// An entry of a session that does not exist is left alone for this long after its time: it may be about to be created.
const GHOST_AGE: i64 = 60_000;
/// Sessions that are claimed at once.
const CLAIM: usize = 100;
/// A session that was claimed and not settled is due again after this. A take-over may be as much later than the end of the
/// lease: who claims a session just before that end finds it held, and its time, which only grows, is this claim's then.
const CLAIM_AGAIN: Duration = Duration::from_millis(500);
/// List entries that are read at once.
const PAGE: usize = 256;

pub(super) struct Index {
    link: Arc<Link>,
    keys: Keys,
}

impl Index {
    pub(super) fn new(link: Arc<Link>, keys: Keys) -> Self {
        Self { link, keys }
    }

    /// Whether Redis takes what is written.
    pub(super) async fn probe(&self) -> Result<(), StoreError> {
        let (work, nobody) = (self.keys.work(), "nobody");
        self.link.ask(redis::cmd("ZREM").arg(&work).arg(nobody) as &_).await
    }

    /// Puts a session into its user's list.
    pub(super) async fn add(&self, summary: &SessionSummary) -> Result<(), StoreError> {
        let (key, session) = (self.keys.user(&summary.user_id), summary.session_id.to_string());
        let at = summary.updated_at.as_millis();
        self.link.ask(redis::cmd("ZADD").arg(&key).arg(at).arg(&session) as &_).await
    }

    /// Moves a session to its place in its user's list, if it is still in it.
    pub(super) async fn touch(&self, summary: &SessionSummary) -> Result<(), StoreError> {
        let (key, session) = (self.keys.user(&summary.user_id), summary.session_id.to_string());
        let at = summary.updated_at.as_millis();
        self.link.ask(redis::cmd("ZADD").arg(&key).arg("XX").arg(at).arg(&session) as &_).await
    }

    /// Takes a session out of a user's list.
    pub(super) async fn remove(&self, user: &UserId, session: SessionId) -> Result<(), StoreError> {
        let (key, name) = (self.keys.user(user), session.to_string());
        self.link.ask(redis::cmd("ZREM").arg(&key).arg(&name) as &_).await
    }

    /// Takes a session off the schedule that does not exist.
    pub(super) async fn forget(&self, session: SessionId) -> Result<(), StoreError> {
        let (work, name) = (self.keys.work(), session.to_string());
        self.link.ask(redis::cmd("ZREM").arg(&work).arg(&name) as &_).await
    }

    /// Notes until when a session waits for an approval.
    pub(super) async fn note_waiting(&self, session: SessionId, until: Option<Timestamp>) -> Result<(), StoreError> {
        let (key, name) = (self.keys.approvals(), session.to_string());
        match until {
            Some(until) => self.link.ask(redis::cmd("ZADD").arg(&key).arg(until.as_millis()).arg(&name) as &_).await,
            None => self.link.ask(redis::cmd("ZREM").arg(&key).arg(&name) as &_).await,
        }
    }

    /// Sessions that wait for an approval, those whose time runs out first.
    pub(super) async fn waiting(&self, limit: usize) -> Result<Vec<SessionId>, StoreError> {
        let (key, now) = (self.keys.approvals(), Timestamp::now().as_millis());
        let _: usize = self.link.ask(redis::cmd("ZREMRANGEBYSCORE").arg(&key).arg("-inf").arg(now) as &_).await?;
        let mut look = redis::cmd("ZRANGE");
        look.arg(&key).arg(0).arg(limit.saturating_sub(1));
        let noted: Vec<String> = self.link.ask(&look).await?;
        Ok(noted.iter().filter_map(|session| session.parse().ok()).collect())
    }

    pub(super) async fn count(&self, user: &UserId) -> Result<usize, StoreError> {
        let key = self.keys.user(user);
        self.link.ask(redis::cmd("ZCARD").arg(&key) as &_).await
    }

    pub(super) async fn list(
        &self,
        user: &UserId,
        after: Option<ListCursor>,
        limit: usize,
    ) -> Result<Vec<SessionSummary>, StoreError> {
        let key = self.keys.user(user);
        let mut listed: Vec<SessionSummary> = Vec::new();
        let from = after.map_or_else(|| "+inf".to_owned(), |cursor| cursor.updated_at.as_millis().to_string());
        let mut offset = 0;
        while listed.len() < limit {
            let entries: Vec<(String, i64)> = self
                .link
                .ask(
                    redis::cmd("ZREVRANGEBYSCORE")
                        .arg(&key)
                        .arg(&from)
                        .arg("-inf")
                        .arg("WITHSCORES")
                        .arg("LIMIT")
                        .arg(offset)
                        .arg(PAGE) as &_,
                )
                .await?;
            let whole = entries.len() == PAGE;
            offset += entries.len();
            // Those of the cursor's own millisecond that were seen.
            let seen =
                |id: SessionId, at: i64| after.is_some_and(|c| at == c.updated_at.as_millis() && id >= c.session_id);
            let entries: Vec<(SessionId, i64)> = entries
                .iter()
                .filter_map(|(id, at)| Some((id.parse().ok()?, *at)))
                .filter(|(id, at)| !seen(*id, *at))
                .take(limit - listed.len())
                .collect();
            let found = self.summaries(&entries).await?;
            for ((session, at), summary) in entries.iter().zip(found) {
                match summary {
                    Some(summary) if summary.user_id == *user => listed.push(summary),
                    _ => self.drop_ghost(user, *session, *at).await?,
                }
            }
            if !whole {
                break;
            }
        }
        Ok(listed)
    }

    async fn summaries(&self, entries: &[(SessionId, i64)]) -> Result<Vec<Option<SessionSummary>>, StoreError> {
        // Each on a node of its own: commands side by side, not a pipeline to one.
        let found = entries.iter().map(|(session, _)| summary(&self.link, &self.keys, *session));
        futures_util::future::try_join_all(found).await
    }

    async fn drop_ghost(&self, user: &UserId, session: SessionId, at: i64) -> Result<(), StoreError> {
        if at < Timestamp::now().as_millis() - GHOST_AGE { self.remove(user, session).await } else { Ok(()) }
    }

    /// Says that a session is to be looked at in a while.
    pub(super) async fn schedule(&self, session: SessionId, after: Duration) -> Result<(), StoreError> {
        let (work, session, after) = ([self.keys.work()], session.to_string(), after.as_millis().to_string());
        let answer: Result<Answer, StoreError> =
            self.link.ask(&SCRIPTS.schedule.with(&work, &[session.as_bytes(), after.as_bytes()])).await;
        answer.map(drop)
    }

    /// When a session is to be looked at, in the words of Redis.
    pub(super) async fn scheduled(&self, session: SessionId) -> Result<Option<String>, StoreError> {
        let (work, session) = (self.keys.work(), session.to_string());
        self.link.ask(redis::cmd("ZSCORE").arg(&work).arg(&session) as &_).await
    }

    /// Takes a session off the schedule that was without work at its time `scheduled`.
    pub(super) async fn settle(&self, session: SessionId, scheduled: &str) -> Result<(), StoreError> {
        let (work, session) = ([self.keys.work()], session.to_string());
        let answer: Result<Answer, StoreError> =
            self.link.ask(&SCRIPTS.settle.with(&work, &[session.as_bytes(), scheduled.as_bytes()])).await;
        answer.map(drop)
    }

    /// Leaves a session with work to whoever takes it first.
    pub(super) async fn hand_on(&self, session: SessionId) -> Result<(), StoreError> {
        self.schedule(session, Duration::ZERO).await?;
        let (work, session) = (self.keys.work_channel(), session.to_string());
        self.link.ask(redis::cmd("PUBLISH").arg(&work).arg(&session) as &_).await
    }

    /// Sessions that are due to be looked at.
    pub(super) async fn claim(&self) -> Result<Vec<SessionId>, StoreError> {
        let (work, most, again) = ([self.keys.work()], CLAIM.to_string(), CLAIM_AGAIN.as_millis().to_string());
        let due: Vec<String> = self.link.ask(&SCRIPTS.claim.with(&work, &[most.as_bytes(), again.as_bytes()])).await?;
        Ok(due.iter().filter_map(|session| session.parse().ok()).collect())
    }
}
