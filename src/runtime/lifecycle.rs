//! Sessions begin and go.

use std::sync::Arc;

use super::{Sessions, SessionsError, Shared, learning};
use crate::audit::{AuditAction, AuditRecord};
use k8sops_core::{
    EventAuthor, EventBody, EventDraft, IdleDeletion, ListCursor, SessionCreated, SessionId, SessionSettings,
    SessionState, SessionSummary, StoreError, UserId, load_state,
};

impl Sessions {
    /// Begins a session. When the user has `MAX_SESSIONS` already, the one with the oldest activity is deleted, never one
    /// with a run in progress.
    ///
    /// # Errors
    /// `TooMany`, and those of the store.
    pub async fn create(
        &self,
        user: &UserId,
        title: Option<String>,
        settings: SessionSettings,
    ) -> Result<SessionSummary, SessionsError> {
        self.refuse_when_stopping()?;
        let created = SessionCreated { user_id: user.clone(), title, settings, by: EventAuthor::User(user.clone()) };
        let event = EventDraft::new(EventBody::SessionCreated(created)).at(SessionId::new(), 1);
        let (this, user) = (self.clone(), user.clone());
        self.to_the_end(async move {
            let _one_at_a_time = this.0.creating.lock().await;
            this.make_room(&user).await?;
            this.0.parts.store.create_session(&event).await?;
            this.0.parts.audit.record(AuditRecord::from_event(&event, &user).into_iter().collect()).await;
            Ok(SessionSummary::begin(&event).expect("a session_created begins a summary"))
        })
        .await
    }

    async fn make_room(&self, user: &UserId) -> Result<(), SessionsError> {
        let (store, max) = (&self.0.parts.store, self.0.parts.room.load().sessions_per_user);
        if store.count_sessions(user).await? < max {
            return Ok(());
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
        for old in all.iter().rev().map(|summary| summary.session_id) {
            if over == 0 {
                break;
            }
            let to_learn = self.0.to_learn(old).await;
            match store.delete_idle_session(old).await {
                Ok(IdleDeletion::Deleted) => {
                    self.0.registry.close(old);
                    self.note_deleted("system".to_owned(), old).await;
                    self.0.had_its_end(user, old, to_learn).await;
                    over -= 1;
                }
                // One that cannot be read may yet be repaired: only its user deletes it.
                Ok(IdleDeletion::Busy) | Err(StoreError::Corrupt(_)) => {}
                // Somebody else deleted it.
                Err(StoreError::NotFound(_)) => over -= 1,
                Err(error) => return Err(error.into()),
            }
        }
        if over == 0 { Ok(()) } else { Err(SessionsError::TooMany(max)) }
    }

    /// Deletes a session with all that belongs to it. A run in progress is broken off.
    ///
    /// # Errors
    /// `NotFound`, and those of the store.
    pub async fn delete(&self, user: &UserId, session: SessionId) -> Result<(), SessionsError> {
        let (this, user) = (self.clone(), user.clone());
        self.to_the_end(async move { this.delete_of(&user, session).await }).await
    }

    async fn delete_of(&self, user: &UserId, session: SessionId) -> Result<(), SessionsError> {
        match self.get(user, session).await {
            // The user's own, or it would not be found.
            Ok(_) | Err(SessionsError::Store(StoreError::Corrupt(_))) => {}
            Err(error) => return Err(error),
        }
        let store = &self.0.parts.store;
        let to_learn = self.0.to_learn(session).await;
        let deleted = store.delete_session(session).await;
        // It may be gone though that could not be made sure of: whoever watches it must not wait for ever.
        if deleted.is_ok() || matches!(store.read_summary(session).await, Ok(None)) {
            self.0.registry.close(session);
            self.note_deleted(format!("user:{user}"), session).await;
            self.0.had_its_end(user, session, to_learn).await;
        }
        Ok(deleted?)
    }

    async fn note_deleted(&self, by: String, session: SessionId) {
        let entry = AuditRecord::new(AuditAction::SessionDeleted).with_actor(by).with_session(session);
        self.0.parts.audit.record(vec![entry]).await;
    }
}

impl Shared {
    /// A session that is about to be deleted, if there is something in it that was not looked at for memories.
    async fn to_learn(&self, session: SessionId) -> Option<SessionState> {
        self.parts.memory.as_ref()?;
        let summary = self.parts.store.read_summary(session).await.ok().flatten();
        summary.filter(|summary| summary.to_learn)?;
        Some(load_state(self.parts.store.as_ref(), session).await.ok()?.state)
    }

    /// A session is gone: what was not looked at of it is, and what it used is closed.
    async fn had_its_end(self: &Arc<Self>, user: &UserId, session: SessionId, to_learn: Option<SessionState>) {
        let (shared, user, takes_long) = (self.clone(), user.clone(), to_learn.is_some());
        let end = Box::pin(async move {
            if let Some(state) = to_learn {
                learning::learn_of_gone(&shared, state).await;
            }
            if let Err(error) = shared.parts.store.close_session_usage(&user, session).await {
                tracing::debug!(%session, %error, "what it used stays by itself");
            }
        });
        if takes_long {
            self.tasks.spawn_on(end, &self.runtime);
        } else {
            end.await;
        }
    }
}
