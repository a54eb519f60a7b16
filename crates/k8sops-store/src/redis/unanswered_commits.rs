//! Commits whose reply never came: a server that is lost may have accepted them.

use std::collections::HashSet;

use k8sops_core::SessionId;
use parking_lot::Mutex;

/// The sessions of which this process has sent a commit that was not answered, or was rejected afterwards.
#[derive(Default)]
pub(super) struct UnansweredCommits(
    // A synchronous mutex: held for a lookup, never across an await.
    Mutex<HashSet<SessionId>>,
);

impl UnansweredCommits {
    /// Records that a commit is sent.
    pub(super) fn record_sent(&self, session: SessionId) {
        self.0.lock().insert(session);
    }

    /// Records that the newest commit of the session was accepted, or that its log will be loaded again.
    pub(super) fn forget(&self, session: SessionId) {
        self.0.lock().remove(&session);
    }

    /// Returns whether the log may once have gone further than this process knows.
    pub(super) fn contains(&self, session: SessionId) -> bool {
        self.0.lock().contains(&session)
    }
}
