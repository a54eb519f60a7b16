//! What other replicas do, and what this one does because of it: doorbells are passed to owners and followers, and sessions
//! whose owner is gone are taken over.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use super::Shared;
use k8sops_core::{NotificationTopic, StoreError, StoreNotification};

/// How often this process looks for sessions that nobody works on. With a lease of 10 s, a session is taken over within
/// this and that.
const LOOK: Duration = Duration::from_secs(1);

impl Shared {
    /// Takes over the sessions that have work and nobody who does it.
    pub(super) async fn take_over(self: &Arc<Self>) -> Result<usize, StoreError> {
        let unfinished = self.parts.store.claim_unfinished_sessions().await?;
        for session in &unfinished {
            self.ring(*session);
        }
        Ok(unfinished.len())
    }
}

/// Attends to what other replicas do, until the service stops. Only for a store that is shared.
pub(super) async fn attend(shared: Arc<Shared>) {
    let Some(store) = shared.parts.store.notifications() else { return };
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut away = false;
    loop {
        let look_now = tokio::select! {
            ring = store.next_notification() => match ring {
                StoreNotification::Session(session, NotificationTopic::Log) => {
                    shared.followers.rung(session);
                    false
                }
                StoreNotification::Session(session, NotificationTopic::Inbox) => {
                    shared.registry.ring_owner(session);
                    false
                }
                StoreNotification::Unfinished => true,
                StoreNotification::All => {
                    shared.followers.all_rung();
                    shared.registry.ring_owners();
                    true
                }
            },
            _ = look.tick() => true,
        };
        if look_now && !shared.halt.is_cancelled() {
            match shared.take_over().await {
                Ok(_) if away => {
                    away = false;
                    tracing::info!("the store is back");
                }
                Err(error) if !away => {
                    away = true;
                    tracing::warn!(%error, "the store is away; trying again every second");
                }
                _ => {}
            }
        }
    }
}
