//! The lease of a session owner. A separate task renews it, so that a busy owner keeps it. Its expiry is measured by this
//! process's own clocks, so that a process that was paused, or whose machine was suspended, does not act on a lease that
//! another one holds.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use parking_lot::Mutex;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::session_registry::Wakeup;
use k8sops_core::{SessionId, SessionLease, SessionStore, StoreError};

/// Time to live of a lease without renewal. It bounds a take-over, which begins at most 1 s after the end of the lease of an
/// owner that was killed. An owner, or a store, that pauses for longer than `LEASE_TTL - RENEW_INTERVAL` can lose leases.
pub(super) const LEASE_TTL: Duration = Duration::from_secs(4);
/// Interval of renewals.
pub(super) const RENEW_INTERVAL: Duration = Duration::from_millis(1500);
/// Delay before a failed renewal is retried.
const RETRY: Duration = Duration::from_millis(250);

/// A lease that is renewed until this is dropped.
pub(super) struct HeldLease {
    pub(super) lease: SessionLease,
    lease_validity: Arc<LeaseValidity>,
    wakeup: Arc<Wakeup>,
    _renewing: AbortOnDropHandle<()>,
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.wakeup.set_lease_held(false);
    }
}

/// Whether a lease is still held, by the clock of this process.
#[derive(Debug)]
pub(super) struct LeaseValidity {
    /// When the lease expires; `None` if it never does.
    until: Mutex<Option<LeaseExpiry>>,
    lost: CancellationToken,
    why: Mutex<Option<StoreError>>,
}

/// When a lease expires, by two clocks: timers wait by one that stands still while the machine is suspended, and the other
/// does not.
#[derive(Debug, Clone, Copy)]
struct LeaseExpiry {
    at: Instant,
    at_boot_time: Duration,
}

impl LeaseExpiry {
    fn after(from: LeaseExpiry, ttl: Duration) -> Self {
        Self { at: from.at + ttl, at_boot_time: from.at_boot_time + ttl }
    }

    fn now() -> Self {
        Self { at: Instant::now(), at_boot_time: boot_time() }
    }

    fn is_after(self, now: Self) -> bool {
        now.at < self.at && now.at_boot_time < self.at_boot_time
    }

    fn left(self, now: Self) -> Duration {
        let by_boot_time = self.at_boot_time.saturating_sub(now.at_boot_time);
        self.at.saturating_duration_since(now.at).min(by_boot_time)
    }
}

/// The time since the start of the machine, including that in which it was suspended. Zero where the system does not have
/// such a clock.
fn boot_time() -> Duration {
    #[cfg(target_os = "linux")]
    if let Ok(time) = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME) {
        return Duration::from(time);
    }
    Duration::ZERO
}

impl HeldLease {
    /// Acquires the lease of a session. Renewals wake its actor if a notification was lost.
    ///
    /// # Errors
    /// Those of [`SessionStore::acquire`].
    pub(super) async fn acquire(
        store: &Arc<dyn SessionStore>,
        session: SessionId,
        owner: &str,
        wakeup: Arc<Wakeup>,
    ) -> Result<Self, StoreError> {
        // Measured from before the request, so that it does not end later here than in the store.
        let from = LeaseExpiry::now();
        let lease = store.acquire_lease(session, owner, LEASE_TTL).await?;
        // A store of a single process hands out no lease to others, so it never expires.
        let until = store.notifications().map(|_| LeaseExpiry::after(from, LEASE_TTL));
        let validity =
            Arc::new(LeaseValidity { until: Mutex::new(until), lost: CancellationToken::new(), why: Mutex::default() });
        let renewing = tokio::spawn(renew_periodically(store.clone(), lease, validity.clone(), wakeup.clone()));
        wakeup.set_lease_held(true);
        Ok(Self { lease, lease_validity: validity, wakeup, _renewing: AbortOnDropHandle::new(renewing) })
    }

    /// Returns the shared validity of the lease.
    pub(super) fn validity(&self) -> Arc<LeaseValidity> {
        self.lease_validity.clone()
    }

    /// Waits until the lease is lost; returns the reason.
    pub(super) async fn wait_until_lost(&self) -> StoreError {
        self.lease_validity.lost.cancelled().await;
        let why = self.lease_validity.why.lock().clone();
        why.unwrap_or_else(|| StoreError::Unavailable("the lease could not be renewed in time".into()))
    }
}

impl LeaseValidity {
    /// Returns whether the lease is certainly held now.
    pub(super) fn is_held(&self) -> bool {
        !self.lost.is_cancelled() && self.until().is_none_or(|until| until.is_after(LeaseExpiry::now()))
    }

    fn until(&self) -> Option<LeaseExpiry> {
        *self.until.lock()
    }

    fn mark_lost(&self, why: StoreError) {
        *self.why.lock() = Some(why);
        self.lost.cancel();
    }
}

/// How long it is until the next renewal of all sessions that have no deadline for it: one wake-up of a thread serves all.
fn until_common_renewal() -> Duration {
    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
    let since_last = FIRST.elapsed().as_millis() % RENEW_INTERVAL.as_millis();
    RENEW_INTERVAL.saturating_sub(Duration::from_millis(u64::try_from(since_last).unwrap_or(0)))
}

/// Renews a lease until it is lost. One that never expires is renewed as well: the store then looks whether another program
/// has changed the session.
async fn renew_periodically(
    store: Arc<dyn SessionStore>,
    lease: SessionLease,
    validity: Arc<LeaseValidity>,
    wakeup: Arc<Wakeup>,
) {
    let next_renewal = || if validity.until().is_some() { RENEW_INTERVAL } else { until_common_renewal() };
    let mut wait = next_renewal();
    let mut inbox_position = None;
    loop {
        sleep(wait).await;
        let from = LeaseExpiry::now();
        let until = validity.until();
        let is_held = || until.is_none_or(|until| until.is_after(LeaseExpiry::now()));
        let limit = until.map_or(LEASE_TTL, |until| until.left(from));
        wait = next_renewal();
        match timeout(limit, store.renew_lease(lease, LEASE_TTL)).await {
            Ok(Ok(renewal)) if until.is_some() => {
                // Between the first look into the inbox and the first renewal, a notification may have been lost.
                if inbox_position.replace(renewal.inbox_position) != Some(renewal.inbox_position) {
                    wakeup.notify();
                }
                wakeup.remote_watchers.record_audience(renewal.audience);
                *validity.until.lock() = Some(LeaseExpiry::after(from, LEASE_TTL));
            }
            Ok(Ok(_)) => {}
            Ok(Err(error @ StoreError::Unavailable(_))) if is_held() => {
                tracing::debug!(session = %lease.session, %error, "lease renewal failed, retrying");
                wait = until.map_or(wait, |_| RETRY);
            }
            Ok(Err(error)) => return validity.mark_lost(error),
            Err(_) if until.is_none() => {}
            Err(_) => {
                return validity.mark_lost(StoreError::Unavailable("the lease could not be renewed in time".into()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn leases_without_a_deadline_are_renewed_at_the_same_time() {
        let millis = || until_common_renewal().as_millis();
        for step in [1, 400, 700, 1500, 3001] {
            let before = millis();
            tokio::time::advance(Duration::from_millis(step)).await;
            let interval = RENEW_INTERVAL.as_millis();
            assert!((1..=interval).contains(&millis()));
            assert_eq!((millis() + u128::from(step)) % interval, before % interval, "{step} ms later");
        }
    }

    #[test]
    fn suspended_machine_does_not_hold_its_lease() {
        let now = LeaseExpiry::now();
        let until = LeaseExpiry::after(now, LEASE_TTL);
        let later = |awake: u64, suspended: u64| LeaseExpiry {
            at: now.at + Duration::from_secs(awake),
            at_boot_time: now.at_boot_time + Duration::from_secs(awake + suspended),
        };
        for (awake, suspended, left) in [(0, 0, 4), (3, 0, 1), (1, 2, 1), (1, 3, 0), (0, 3600, 0), (4, 0, 0)] {
            let at = later(awake, suspended);
            assert_eq!(until.left(at), Duration::from_secs(left), "{awake} s awake, {suspended} s suspended");
            assert_eq!(until.is_after(at), left > 0, "{awake} s awake, {suspended} s suspended");
        }
        assert!(cfg!(not(target_os = "linux")) || boot_time() > Duration::ZERO);
    }
}
