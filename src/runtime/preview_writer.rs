//! Writes previews of the open message to the store, for watchers on other replicas. Nothing waits for it.
//!
//! The text is in the feed. The first chunk of each message is written, so that a next owner knows which message was open, and
//! the reply tells whether another replica has watchers. Only then the rest is written: at once, and what follows within some
//! tens of milliseconds together.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::sleep};

use k8sops_core::{PreviewReader, RemoteAudience, SessionFeed, SessionLease, SessionStore};

/// How long text is collected after a write.
const WRITE_INTERVAL: Duration = Duration::from_millis(50);

/// Whether other replicas have watchers of a session, as its owner knows.
#[derive(Debug, Default)]
pub(super) struct RemoteWatchers {
    are_present: AtomicBool,
    announced: Notify,
}

impl RemoteWatchers {
    /// Records that a replica has watchers from now on. It has nothing of the open message yet.
    pub(super) fn announce(&self) {
        self.are_present.store(true, Ordering::Relaxed);
        self.announced.notify_one();
    }

    /// Records what the store says of watchers when it renews a lease.
    pub(super) fn record_audience(&self, audience: RemoteAudience) {
        match audience {
            // The announcement was not notified.
            RemoteAudience::Present if !self.are_present() => self.announce(),
            // The next write says whether they are still there.
            RemoteAudience::Present | RemoteAudience::Absent => {}
        }
    }

    fn are_present(&self) -> bool {
        self.are_present.load(Ordering::Relaxed)
    }
}

/// Writes previews of one session.
#[derive(Debug, Default)]
pub(super) struct PreviewWriter {
    opened: Notify,
}

impl PreviewWriter {
    /// Records that a message was opened in the feed.
    pub(super) fn record_opening(&self) {
        self.opened.notify_one();
    }

    /// Writes what the feed has of open messages, until the future is dropped.
    pub(super) async fn run(
        self: Arc<Self>,
        store: Arc<dyn SessionStore>,
        lease: SessionLease,
        feed: Arc<SessionFeed>,
        watchers: Arc<RemoteWatchers>,
    ) {
        let Some(shared) = store.notifications() else { return };
        let mut reader = PreviewReader::new(feed);
        loop {
            let update = tokio::select! {
                () = self.opened.notified() => reader.take_update(),
                () = watchers.announced.notified() => {
                    reader.start_over();
                    reader.take_update()
                }
                update = reader.next_update(), if watchers.are_present() => Some(update),
            };
            let Some(update) = update else { continue };
            match shared.write_preview(lease, &update).await {
                Ok(audience) => watchers.are_present.store(audience == RemoteAudience::Present, Ordering::Relaxed),
                Err(error) => {
                    // It may have been written in part. The next write replaces it, and the committed message all of them.
                    reader.start_over();
                    tracing::debug!(session = %lease.session, %error, "preview write failed");
                }
            }
            if watchers.are_present() {
                sleep(WRITE_INTERVAL).await;
            }
        }
    }
}
