//! What an actor holds while it owns a session.

use std::{collections::VecDeque, sync::Arc};

use k8sops_core::{NotificationTopic, SessionFeed, SessionId};
use k8sops_tools::ToolExecutor;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use super::run_task::RunTask;
use crate::runtime::{
    inner::RuntimeInner,
    instrumented::RunSpan,
    lease::HeldLease,
    log_writer::LogWriter,
    preview_writer::PreviewWriter,
    run_handle::{SessionProjection, TaskMessage},
};

/// A session under a lease. Its tasks end when this is dropped.
pub(super) struct SessionResources {
    pub(super) shared: Arc<RuntimeInner>,
    pub(super) session: SessionId,
    pub(super) feed: Arc<SessionFeed>,
    pub(super) held: HeldLease,
    pub(super) registration: OwnerRegistration,
    pub(super) projection: Arc<SessionProjection>,
    pub(super) writer: LogWriter,
    pub(super) tools: Arc<dyn ToolExecutor>,
    /// The span of the open run.
    pub(super) span: RunSpan,
    /// Previews for watchers on other replicas, and the task that writes them.
    pub(super) previews: Option<(Arc<PreviewWriter>, AbortOnDropHandle<()>)>,
    /// What the tasks of the session send.
    pub(super) mailbox: mpsc::Receiver<TaskMessage>,
    pub(super) to_mailbox: mpsc::Sender<TaskMessage>,
    /// Who waits for appends to be durable, the oldest append first.
    pub(super) waiting_appends: VecDeque<oneshot::Sender<()>>,
    pub(super) run: Option<RunTask>,
    pub(super) extraction: Option<AbortOnDropHandle<()>>,
    /// Whether a commit has usage that was not recorded.
    pub(super) has_unrecorded_usage: bool,
}

/// Subscribes to the inbox and marks the feed as written by this owner, until it is dropped.
pub(super) struct OwnerRegistration {
    shared: Arc<RuntimeInner>,
    session: SessionId,
    feed: Arc<SessionFeed>,
}

impl OwnerRegistration {
    pub(super) fn new(shared: Arc<RuntimeInner>, session: SessionId, feed: Arc<SessionFeed>) -> Self {
        if let Some(store) = shared.dependencies.store.notifications() {
            store.subscribe(session, NotificationTopic::Inbox);
        }
        shared.remote_tails.set_owned(session, &feed, true);
        Self { shared, session, feed }
    }
}

impl Drop for OwnerRegistration {
    fn drop(&mut self) {
        self.shared.pending_approvals.forget_session(self.session);
        if let Some(store) = self.shared.dependencies.store.notifications() {
            store.unsubscribe(self.session, NotificationTopic::Inbox);
        }
        self.shared.remote_tails.set_owned(self.session, &self.feed, false);
    }
}
