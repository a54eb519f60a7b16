//! The index of sessions whose run waits for an approval or an answer, so that an inbox does not read all sessions.
//!
//! Each owner records its own session after the commit that shows the wait, and again after a takeover, which corrects what
//! a dead process left. With a shared store the index is in the store, else in memory. An entry can be outdated; readers
//! check the session itself.

use std::{collections::HashMap, time::Duration};

use parking_lot::{Mutex, MutexGuard};

use tokio::time::timeout;

use k8sops_core::{SessionId, SessionStore, StoreError, Timestamp};

/// Time limit of recording, which delays the session actor.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// Upper bound of sessions that a list of approvals reads: those whose approvals expire first.
pub(super) const MAX_LISTED: usize = 1000;

#[derive(Debug, Default)]
pub(super) struct PendingApprovalIndex(Mutex<HashMap<SessionId, Timestamp>>);

impl PendingApprovalIndex {
    /// Records until when a session's approvals are pending; `None` if it has none. Returns whether it was recorded.
    pub(super) async fn record_deadline(
        &self,
        store: &dyn SessionStore,
        session: SessionId,
        until: Option<Timestamp>,
    ) -> bool {
        match until {
            Some(until) => drop(self.lock().insert(session, until)),
            None => drop(self.lock().remove(&session)),
        }
        let Some(shared) = store.notifications() else { return true };
        match timeout(STORE_TIMEOUT, shared.set_approval_deadline(session, until)).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::debug!(%session, %error, "recording pending approvals failed");
                false
            }
            Err(_) => false,
        }
    }

    /// Removes a session that this process no longer owns.
    pub(super) fn forget_session(&self, session: SessionId) {
        self.lock().remove(&session);
    }

    /// Lists recorded sessions, by expiry.
    pub(super) async fn list_sessions(&self, store: &dyn SessionStore) -> Result<Vec<SessionId>, StoreError> {
        if let Some(shared) = store.notifications() {
            return shared.list_awaiting_approval(MAX_LISTED).await;
        }
        let mut noted: Vec<_> = self.lock().iter().map(|(session, until)| (*until, *session)).collect();
        noted.sort_unstable();
        noted.truncate(MAX_LISTED);
        Ok(noted.into_iter().map(|(_, session)| session).collect())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Timestamp>> {
        self.0.lock()
    }
}
