//! Logs that no other process can have continued.

use std::collections::HashSet;

use k8sops_core::SessionId;
use parking_lot::Mutex;

/// The sessions that this process has owned without a break, and of which all its commits were answered. If their server is
/// lost, this process knows how far their logs went. Of all others, another owner may have written events that were lost with the
/// server, together with its lease.
#[derive(Default)]
pub(super) struct HeldLogs(
    // A synchronous mutex: held for a lookup, never across an await.
    Mutex<HashSet<SessionId>>,
);

impl HeldLogs {
    /// Records that this process owns the session and knows its log: it has acquired the lease, or a commit was accepted.
    pub(super) fn insert(&self, session: SessionId) {
        self.0.lock().insert(session);
    }

    /// Records that others may continue the log (the lease is released or lost), or that this process may itself have done so
    /// without knowing (a commit is sent).
    pub(super) fn remove(&self, session: SessionId) {
        self.0.lock().remove(&session);
    }

    /// Returns whether no other process can have continued the log, provided that the lease has not expired.
    pub(super) fn contains(&self, session: SessionId) -> bool {
        self.0.lock().contains(&session)
    }
}
