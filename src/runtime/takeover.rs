//! Reacts to other replicas: passes notifications on to session actors and remote tails, and takes over sessions whose owner is
//! gone.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use super::{inner::RuntimeInner, store_watch::StoreWatch};
use k8sops_core::{NotificationTopic, StoreError, StoreNotification};

/// Interval of looking for sessions without an owner. With a lease of 10 s, a session is taken over within the sum of both.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

impl RuntimeInner {
    /// Wakes an owner for each session that has work and no owner; returns their number.
    pub(super) async fn resume_unfinished_sessions(self: &Arc<Self>) -> Result<usize, StoreError> {
        let unfinished = self.dependencies.store.claim_unfinished_sessions().await?;
        for session in &unfinished {
            if !self.known_logs.was_damaged_lately(*session) {
                self.wake_owner(*session);
            }
        }
        Ok(unfinished.len())
    }
}

/// Processes notifications of other replicas until the service stops. Returns immediately for a store of a single process.
pub(super) async fn watch_other_replicas(shared: Arc<RuntimeInner>) {
    let Some(store) = shared.dependencies.store.notifications() else { return };
    let mut look = interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut store_watch = StoreWatch::new(shared.store_outages.observer());
    loop {
        let look_now = tokio::select! {
            ring = store.next_notification() => match ring {
                StoreNotification::Session(session, NotificationTopic::Log) => {
                    shared.remote_tails.mark_due(session);
                    false
                }
                StoreNotification::Session(session, NotificationTopic::Inbox) => {
                    shared.registry.wake_owner(session);
                    false
                }
                StoreNotification::Unfinished => true,
                StoreNotification::All => {
                    shared.remote_tails.mark_all_due();
                    shared.registry.wake_all_owners();
                    tokio::spawn(shared.remote_tails.clone().verify_recent_logs());
                    true
                }
            },
            _ = look.tick() => true,
        };
        if look_now && !shared.halt.is_cancelled() {
            match shared.resume_unfinished_sessions().await {
                Ok(_) => store_watch.record_success(),
                Err(error) => store_watch.record_failure(&error),
            }
        }
    }
}
