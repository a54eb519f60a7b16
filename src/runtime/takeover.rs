//! Reacts to other replicas: passes notifications on to session actors and remote tails, and takes over sessions whose owner is
//! gone.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{inner::RuntimeInner, lease::LEASE_TTL, store_watch::StoreWatch};
use k8sops_core::{ClaimedSessions, NotificationTopic, OwnSessions, StoreError, StoreNotification};

/// The longest time between two looks for sessions without an owner: half a lease, so that own sessions are never due, and the
/// ends of others' leases are known before they come.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// The shortest time between two looks, which gathers sessions that are due.
const GATHER_INTERVAL: Duration = Duration::from_millis(100);
/// The time between two looks while more sessions are due than one claims. Other replicas claim in between.
const SHARE_INTERVAL: Duration = Duration::from_millis(5);

impl RuntimeInner {
    /// Wakes an owner for each session that has work and no owner. Those that this process owns are not claimed by others: if it
    /// is killed, they are due when their leases end, at the latest.
    pub(super) async fn resume_unfinished_sessions(self: &Arc<Self>) -> Result<ClaimedSessions, StoreError> {
        let own = self.registry.leased_sessions();
        let own = OwnSessions { sessions: &own, keep: LEASE_TTL };
        let unfinished = self.dependencies.store.claim_unfinished_sessions(own).await?;
        for session in &unfinished.sessions {
            if !self.known_logs.was_damaged_lately(*session) {
                self.wake_owner(*session);
            }
        }
        Ok(unfinished)
    }
}

/// Processes notifications of other replicas until the service stops. Returns immediately for a store of a single process.
pub(super) async fn watch_other_replicas(shared: Arc<RuntimeInner>) {
    let Some(store) = shared.dependencies.store.notifications() else { return };
    let mut next_look = Instant::now();
    let mut store_watch = StoreWatch::new(shared.store_outages.observer());
    loop {
        let look_now = tokio::select! {
            notification = store.next_notification() => match notification {
                StoreNotification::Session(session, NotificationTopic::Log) => {
                    shared.remote_tails.mark_due(session);
                    false
                }
                StoreNotification::Session(session, NotificationTopic::Inbox) => {
                    shared.registry.wake_owner(session);
                    false
                }
                StoreNotification::Watched(session) => {
                    shared.registry.announce_remote_watchers(session);
                    false
                }
                StoreNotification::Account(change) => {
                    shared.accounts.receive(&change);
                    false
                }
                StoreNotification::Unfinished => true,
                StoreNotification::All => {
                    shared.remote_tails.mark_all_due();
                    shared.registry.wake_all_owners();
                    shared.accounts.report_missed();
                    tokio::spawn(shared.remote_tails.clone().verify_recent_logs());
                    true
                }
            },
            () = sleep_until(next_look) => true,
        };
        if look_now && !shared.halt.is_cancelled() {
            let wait = match shared.resume_unfinished_sessions().await {
                Ok(claimed) => {
                    store_watch.record_success();
                    next_look_after(claimed.next_due)
                }
                Err(error) => {
                    store_watch.record_failure(&error);
                    LOOK_INTERVAL
                }
            };
            next_look = Instant::now() + wait;
        } else if look_now {
            next_look = Instant::now() + LOOK_INTERVAL;
        }
    }
}

/// How long to wait for the next look, if the next session is due after `next_due`.
fn next_look_after(next_due: Option<Duration>) -> Duration {
    match next_due {
        Some(Duration::ZERO) => SHARE_INTERVAL,
        Some(due) => due.clamp(GATHER_INTERVAL, LOOK_INTERVAL),
        None => LOOK_INTERVAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_when_sessions_are_due() {
        let millis = Duration::from_millis;
        for (next_due, wait) in [
            (None, LOOK_INTERVAL),
            (Some(0), SHARE_INTERVAL),
            (Some(1), GATHER_INTERVAL),
            (Some(400), millis(400)),
            (Some(9_000), LOOK_INTERVAL),
        ] {
            assert_eq!(next_look_after(next_due.map(millis)), wait, "{next_due:?}");
        }
    }
}
