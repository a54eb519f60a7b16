//! The task of an open run, and what an earlier owner left of its preview.

use k8sops_agent::{LogClosed, RunEnd};
use k8sops_core::{MessageId, MessagePreview, SessionId, StoreError};
use tokio::task::JoinError;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::runtime::{inner::RuntimeInner, session_registry::OwnerSlot};

/// The task of an open run.
pub(super) struct RunTask {
    pub(super) cancel: CancellationToken,
    pub(super) task: AbortOnDropHandle<Result<RunEnd, LogClosed>>,
}

/// Returns the message that an earlier owner was streaming, whose preview is void.
pub(super) async fn superseded_messages(
    shared: &RuntimeInner,
    session: SessionId,
    slot: &OwnerSlot,
) -> Result<Vec<MessageId>, StoreError> {
    let mut open = slot.feed.open_message_id();
    if let Some(store) = shared.dependencies.store.notifications() {
        let seen = store.read_preview(session, 0).await?;
        open = open.or(seen.pieces.last().map(MessagePreview::message_id));
    }
    Ok(open.into_iter().collect())
}

/// Waits for the run's task; never resolves without one.
pub(super) async fn wait_for_run(run: &mut Option<RunTask>) -> Result<(), JoinError> {
    match run {
        // The log says how it ended.
        Some(run) => (&mut run.task).await.map(|_| ()),
        None => std::future::pending().await,
    }
}
