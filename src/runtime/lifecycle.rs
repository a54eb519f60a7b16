//! Creates and deletes sessions.

use std::sync::Arc;

use super::{error::SessionsError, inner::RuntimeInner, memory_extraction, sessions::Sessions};
use crate::audit::{AuditAction, AuditRecord};
use k8sops_core::{
    ConfirmableWrite, EventAuthor, EventBody, EventDraft, IdleDeletion, ListCursor, SessionCreated, SessionId,
    SessionOrigin, SessionSettings, SessionState, SessionSummary, StoreError, UserId, load_state,
};

/// A session to create.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// The title; `None` to derive it from the first message.
    pub title: Option<String>,
    /// The settings.
    pub settings: SessionSettings,
    /// What it is opened for.
    pub origin: SessionOrigin,
}

/// A session that was created.
#[derive(Debug, Clone)]
pub struct CreatedSession {
    /// The session.
    pub summary: SessionSummary,
    /// The sessions that were deleted to make room for it.
    pub evicted: Vec<SessionId>,
}

/// Where the session of [`Sessions::open_or_create_session`] comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionOpening {
    /// It existed.
    Existing,
    /// This call created it.
    Created,
}

impl Sessions {
    /// Creates a session. If the user has `MAX_SESSIONS` already, deletes the one with the oldest activity, but never one with
    /// an open run, one that waits for its user, or one that an alert opened.
    ///
    /// # Errors
    /// `TooMany`, and store errors.
    pub async fn create_session(&self, user: &UserId, new: NewSession) -> Result<CreatedSession, SessionsError> {
        self.create_session_as(SessionId::new(), user, new).await
    }

    /// Returns the session with this id, and creates it like [`Self::create_session`] if there is none. Of several callers at
    /// once, on any replicas, one creates it.
    ///
    /// # Errors
    /// `NotFound` if it belongs to another user, `TooMany`, and store errors.
    pub async fn open_or_create_session(
        &self,
        user: &UserId,
        session: SessionId,
        new: NewSession,
    ) -> Result<(SessionSummary, SessionOpening), SessionsError> {
        match self.get_session(user, session).await {
            Err(SessionsError::NotFound(_)) => {}
            found => return Ok((found?, SessionOpening::Existing)),
        }
        match self.create_session_as(session, user, new).await {
            Err(SessionsError::Store(StoreError::Exists(_))) => {
                Ok((self.get_session(user, session).await?, SessionOpening::Existing))
            }
            created => Ok((created?.summary, SessionOpening::Created)),
        }
    }

    async fn create_session_as(
        &self,
        session: SessionId,
        user: &UserId,
        new: NewSession,
    ) -> Result<CreatedSession, SessionsError> {
        self.ensure_running()?;
        let NewSession { title, settings, origin } = new;
        let by = EventAuthor::User(user.clone());
        let created = SessionCreated { user_id: user.clone(), title, settings, by, origin };
        let event = EventDraft::new(EventBody::SessionCreated(created)).into_event(session, 1);
        let (this, user) = (self.clone(), user.clone());
        self.run_to_completion(async move {
            let evicted = {
                let _one_at_a_time = this.0.creating.lock().await;
                let evicted = this.delete_oldest_sessions(&user).await?;
                this.0.dependencies.store.create_session(&event).await?;
                evicted
            };
            // A former session with this id has nothing to do with this one.
            this.0.known_logs.forget_log(session);
            this.0.dependencies.audit.record(AuditRecord::from_event(&event, &user).into_iter().collect()).await;
            // A client that was given a session must not lose it with all that it sends there.
            this.0.confirm_write(event.session_id, ConfirmableWrite::Creation).await?;
            let summary = SessionSummary::from_first_event(&event).expect("a session_created begins a summary");
            Ok(CreatedSession { summary, evicted })
        })
        .await
    }

    /// Deletes sessions until there is room for one more, and returns them.
    async fn delete_oldest_sessions(&self, user: &UserId) -> Result<Vec<SessionId>, SessionsError> {
        let (store, max) = (&self.0.dependencies.store, self.0.dependencies.capacity.load().sessions_per_user);
        if store.count_sessions(user).await? < max {
            return Ok(Vec::new());
        }
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let page = store.list_sessions(user, after, 256).await?;
            let Some(last) = page.last() else { break };
            after = Some(ListCursor { updated_at: last.updated_at, session_id: last.session_id });
            all.extend(page);
        }
        let mut over = (all.len() + 1).saturating_sub(max);
        let mut evicted = Vec::new();
        let may_evict = |summary: &&SessionSummary| summary.origin != SessionOrigin::Alert;
        for old in all.iter().rev().filter(may_evict).map(|summary| summary.session_id) {
            if over == 0 {
                break;
            }
            let to_learn = self.0.load_unextracted(old).await;
            match store.delete_idle_session(old).await {
                Ok(IdleDeletion::Deleted) => {
                    self.0.registry.close_session(old);
                    tracing::info!(session = %old, %user, max_sessions = max, "session evicted");
                    self.audit_deletion("system".to_owned(), old).await;
                    self.0.finish_deleted_session(user, old, to_learn).await;
                    evicted.push(old);
                    over -= 1;
                }
                // A damaged session may be repaired: only its user deletes it.
                Ok(IdleDeletion::Busy) | Err(StoreError::Corrupt(_)) => {}
                // Deleted concurrently.
                Err(StoreError::NotFound(_)) => over -= 1,
                Err(error) => return Err(error.into()),
            }
        }
        if over == 0 { Ok(evicted) } else { Err(SessionsError::TooMany(max)) }
    }

    /// Deletes a session and everything that belongs to it. An open run is aborted.
    ///
    /// # Errors
    /// `NotFound`, and store errors.
    pub async fn delete_session(&self, user: &UserId, session: SessionId) -> Result<(), SessionsError> {
        let (this, user) = (self.clone(), user.clone());
        self.run_to_completion(async move { this.delete_checked(&user, session).await }).await
    }

    async fn delete_checked(&self, user: &UserId, session: SessionId) -> Result<(), SessionsError> {
        match self.get_session(user, session).await {
            // The session belongs to the user, or it would not be found.
            Ok(_) | Err(SessionsError::Store(StoreError::Corrupt(_))) => {}
            Err(error) => return Err(error),
        }
        let store = &self.0.dependencies.store;
        let to_learn = self.0.load_unextracted(session).await;
        let deleted = store.delete_session(session).await;
        // The deletion may have succeeded in spite of the error: watchers must not wait for a session that is gone.
        if deleted.is_ok() || matches!(store.read_summary(session).await, Ok(None)) {
            self.0.registry.close_session(session);
            self.audit_deletion(format!("user:{user}"), session).await;
            self.0.finish_deleted_session(user, session, to_learn).await;
        }
        Ok(deleted?)
    }

    async fn audit_deletion(&self, by: String, session: SessionId) {
        let entry = AuditRecord::new(AuditAction::SessionDeleted).with_actor(by).with_session(session);
        self.0.dependencies.audit.record(vec![entry]).await;
    }
}

impl RuntimeInner {
    /// Returns the state of a session that is about to be deleted, if memories were not extracted from all of it.
    async fn load_unextracted(&self, session: SessionId) -> Option<SessionState> {
        self.dependencies.memory.as_ref()?;
        let summary = self.dependencies.store.read_summary(session).await.ok().flatten();
        summary.filter(|summary| summary.to_learn)?;
        Some(load_state(self.dependencies.store.as_ref(), session).await.ok()?.state)
    }

    /// Extracts memories from a deleted session and closes its usage record.
    async fn finish_deleted_session(
        self: &Arc<Self>,
        user: &UserId,
        session: SessionId,
        to_learn: Option<SessionState>,
    ) {
        let (shared, user, takes_long) = (self.clone(), user.clone(), to_learn.is_some());
        let end = Box::pin(async move {
            if let Some(state) = to_learn {
                memory_extraction::extract_from_deleted(&shared, state).await;
            }
            if let Err(error) = shared.dependencies.store.close_session_usage(&user, session).await {
                tracing::debug!(%session, %error, "closing the usage record failed");
            }
        });
        if takes_long {
            self.tasks.spawn_on(end, self.threads.base());
        } else {
            end.await;
        }
    }
}
