//! Creates and deletes sessions.

use std::{sync::Arc, time::Duration};

use super::{
    account_hub::session_deleted, error::SessionsError, inner::RuntimeInner, memory_extraction, sessions::Sessions,
};
use crate::audit::{AuditAction, AuditRecord};
use data_encoding::HEXLOWER;
use k8sops_core::{
    BackendError, CommandId, ConfirmableWrite, DeletionReason, EventAuthor, EventBody, EventDraft, ExpiringRecord,
    IdleDeletion, ListCursor, RecordGroup, RecordId, RecordInsertion, SessionCreated, SessionId, SessionOrigin,
    SessionSettings, SessionState, SessionSummary, StoreError, Timestamp, UserId, load_state,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

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

/// Makes the creation of a session safe to repeat.
#[derive(Debug, Clone)]
pub struct CreationKey {
    /// The id that the client chose for the request.
    pub id: CommandId,
    /// Tells a repetition from another request with the same id.
    pub fingerprint: String,
}

/// How long a creation can be repeated.
const CREATION_LIFETIME: Duration = Duration::from_hours(24);

/// The content of a creation's record.
#[derive(Debug, Serialize, Deserialize)]
struct StoredCreation {
    fingerprint: String,
    session_id: SessionId,
    /// Whether the session was created. If it is gone then, it was deleted.
    is_done: bool,
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
    /// an open run, one that waits for its user, or one that an alert opened. A repetition with the same key returns the session
    /// that the first request created.
    ///
    /// # Errors
    /// `TooMany`, and store errors: `CommandIdReused`.
    pub async fn create_session(
        &self,
        user: &UserId,
        new: NewSession,
        key: Option<CreationKey>,
    ) -> Result<CreatedSession, SessionsError> {
        self.ensure_running()?;
        let (this, user) = (self.clone(), user.clone());
        self.run_to_completion(async move {
            match key {
                Some(key) => this.create_once(&user, new, key).await,
                None => this.create_with_id(&user, SessionId::new(), new).await,
            }
        })
        .await
    }

    /// Creates a session unless an earlier request with the same key did. The id of the session is recorded before it exists, so
    /// that a repetition after a failure does not create another one.
    async fn create_once(
        &self,
        user: &UserId,
        new: NewSession,
        key: CreationKey,
    ) -> Result<CreatedSession, SessionsError> {
        let store = &self.0.dependencies.store;
        let group = RecordGroup::creations_of(user);
        let mut creation =
            StoredCreation { fingerprint: key.fingerprint, session_id: SessionId::new(), is_done: false };
        let record = |creation: &StoredCreation| ExpiringRecord {
            id: creation_record(&key.id),
            value: serde_json::to_string(creation).expect("a creation has string keys and no failing Serialize"),
            expires_at: Timestamp::now().saturating_add(CREATION_LIFETIME),
        };
        if let RecordInsertion::Exists(known) = store.insert_record(&group, &record(&creation)).await? {
            let known: StoredCreation = serde_json::from_str(&known.value)
                .map_err(|error| StoreError::FileDamaged(BackendError::caused_by("the record of a request", error)))?;
            if known.fingerprint != creation.fingerprint {
                return Err(StoreError::CommandIdReused.into());
            }
            if let Some(summary) = store.read_summary(known.session_id).await? {
                // The first request may have failed before it was confirmed.
                self.0.confirm_write(known.session_id, ConfirmableWrite::Creation).await?;
                return Ok(CreatedSession { summary, evicted: Vec::new() });
            }
            if known.is_done {
                return Err(SessionsError::NotFound(known.session_id));
            }
            creation.session_id = known.session_id;
        }
        let session = creation.session_id;
        let created = match self.create_with_id(user, session, new).await {
            // Another request with this key was faster.
            Err(SessionsError::Store(StoreError::Exists(_))) => {
                let summary = store.read_summary(session).await?.ok_or(SessionsError::NotFound(session))?;
                CreatedSession { summary, evicted: Vec::new() }
            }
            created => created?,
        };
        creation.is_done = true;
        store.replace_record(&group, &record(&creation)).await?;
        Ok(created)
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
        self.ensure_running()?;
        let (this, owner) = (self.clone(), user.clone());
        let created = self.run_to_completion(async move { this.create_with_id(&owner, session, new).await }).await;
        match created {
            Err(SessionsError::Store(StoreError::Exists(_))) => {
                Ok((self.get_session(user, session).await?, SessionOpening::Existing))
            }
            created => Ok((created?.summary, SessionOpening::Created)),
        }
    }

    async fn create_with_id(
        &self,
        user: &UserId,
        session: SessionId,
        new: NewSession,
    ) -> Result<CreatedSession, SessionsError> {
        let NewSession { title, settings, origin } = new;
        let by = EventAuthor::User(user.clone());
        let created = SessionCreated { user_id: user.clone(), title, settings, by, origin };
        let event = EventDraft::new(EventBody::SessionCreated(created)).into_event(session, 1);
        let evicted = {
            let _one_at_a_time = self.0.creating.lock().await;
            let evicted = self.delete_oldest_sessions(user).await?;
            self.0.dependencies.store.create_session(&event).await?;
            evicted
        };
        // A former session with this id has nothing to do with this one.
        self.0.known_logs.forget_log(session);
        self.0.dependencies.audit.record(AuditRecord::from_event(&event, user).into_iter().collect()).await;
        // A client that was given a session must not lose it with all that it sends there.
        self.0.confirm_write(event.session_id, ConfirmableWrite::Creation).await?;
        let summary = SessionSummary::from_first_event(&event).expect("a session_created begins a summary");
        self.0.accounts.publish_events(user, &[Arc::new(event)]);
        Ok(CreatedSession { summary, evicted })
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
                    self.0.accounts.publish_deletion(session_deleted(old, user, DeletionReason::Evicted)).await;
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
            self.0.accounts.publish_deletion(session_deleted(session, user, DeletionReason::Deleted)).await;
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

    /// Removes the records of a deleted session. What a failure leaves cannot be used, and expires.
    async fn remove_session_records(&self, session: SessionId) {
        let store = &self.dependencies.store;
        for group in RecordGroup::all_of_session(session) {
            let removed = async {
                for record in store.list_records(&group).await? {
                    store.take_record(&group, &record.id).await?;
                }
                Ok::<(), StoreError>(())
            };
            if let Err(error) = removed.await {
                tracing::debug!(%session, kind = group.kind(), %error, "removing records of a deleted session failed");
            }
        }
    }

    /// Extracts memories from a deleted session, removes its records and closes its usage record.
    async fn finish_deleted_session(
        self: &Arc<Self>,
        user: &UserId,
        session: SessionId,
        to_learn: Option<SessionState>,
    ) {
        self.remove_session_records(session).await;
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

/// Returns the id of the record of a client's request: any text can be the id of a request.
fn creation_record(id: &CommandId) -> RecordId {
    let digest = HEXLOWER.encode(&Sha256::digest(id.as_str())[..16]);
    digest.parse().expect("hexadecimal digits are a valid id")
}
