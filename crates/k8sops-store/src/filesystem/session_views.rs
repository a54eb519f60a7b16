//! What is in memory of sessions whose files are open, for readers that must not wait for the disk.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use k8sops_core::{EventPage, InboxEntry, SessionId, SessionSummary};

/// A session as of its newest line on the disk.
#[derive(Debug)]
pub(super) struct SessionView {
    pub(super) summary: SessionSummary,
    pub(super) inbox: Vec<Arc<InboxEntry>>,
    pub(super) oldest_seq: u64,
}

impl SessionView {
    /// The page of events after the seq `after`, if there are none.
    pub(super) fn page_after(&self, after: u64) -> Option<EventPage> {
        let (last_seq, oldest_seq) = (self.summary.last_seq, self.oldest_seq);
        (after >= last_seq).then(|| EventPage { last_seq, oldest_seq, ..EventPage::default() })
    }
}

/// The views of the sessions whose files are open. No method blocks: the lock is never held during file access.
#[derive(Debug, Default)]
pub(super) struct SessionViews(Mutex<HashMap<SessionId, Arc<SessionView>>>);

impl SessionViews {
    /// The view of a session; `None` if its file is not open.
    pub(super) fn find(&self, session: SessionId) -> Option<Arc<SessionView>> {
        self.0.lock().get(&session).cloned()
    }

    /// Publishes the view of a session. The caller holds the session's file.
    pub(super) fn publish(&self, session: SessionId, view: SessionView) {
        self.0.lock().insert(session, Arc::new(view));
    }

    /// Removes the view of a session whose file is closed or deleted.
    pub(super) fn remove(&self, session: SessionId) {
        self.0.lock().remove(&session);
    }
}
