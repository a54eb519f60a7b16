//! Sessions whose run waits for an approval: so that who may answer finds them without looking through all sessions.
//!
//! Each owner notes its own, after the commit that shows it and again when it takes a session over, so that what a dead
//! process noted or did not is made good. With a shared store the note is there, else in memory: the owner of every session
//! that waits is in this process then. A note may be of what has ended meanwhile; who reads looks at the session itself.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::timeout;

use k8sops_core::{SessionId, SessionStore, StoreError, Timestamp};

/// How long the store may take to note it: the session's owner waits.
const LIMIT: Duration = Duration::from_secs(2);

/// The most sessions that are looked at for a list of approvals: those whose approvals run out first.
pub(super) const LISTED: usize = 1000;

#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<HashMap<SessionId, Timestamp>>);

impl Waiting {
    /// Notes until when a session's approvals wait; `None`: it has none. False: it could not be noted, try again.
    pub(super) async fn note(&self, store: &dyn SessionStore, session: SessionId, until: Option<Timestamp>) -> bool {
        match until {
            Some(until) => drop(self.lock().insert(session, until)),
            None => drop(self.lock().remove(&session)),
        }
        let Some(shared) = store.notifications() else { return true };
        match timeout(LIMIT, shared.set_approval_deadline(session, until)).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::debug!(%session, %error, "what waits for approval is not noted yet");
                false
            }
            Err(_) => false,
        }
    }

    /// The session is another process's now.
    pub(super) fn forget(&self, session: SessionId) {
        self.lock().remove(&session);
    }

    /// Sessions that wait, as far as is noted; those that run out first come first.
    pub(super) async fn sessions(&self, store: &dyn SessionStore) -> Result<Vec<SessionId>, StoreError> {
        if let Some(shared) = store.notifications() {
            return shared.list_awaiting_approval(LISTED).await;
        }
        let mut noted: Vec<_> = self.lock().iter().map(|(session, until)| (*until, *session)).collect();
        noted.sort_unstable();
        noted.truncate(LISTED);
        Ok(noted.into_iter().map(|(_, session)| session).collect())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
