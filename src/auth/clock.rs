//! Wall-clock time in seconds since 1970.

use std::time::Duration;

use k8sops_core::Timestamp;

/// The longest single sleep of [`sleep_until`].
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// Returns the current time in seconds since 1970.
pub(super) fn unix_now() -> u64 {
    u64::try_from(Timestamp::now().as_millis() / 1000).unwrap_or(0)
}

/// Sleeps until `deadline`, in seconds since 1970. Wakes up once a minute to follow changes of the system clock.
pub(super) async fn sleep_until(deadline: u64) {
    loop {
        let left = Duration::from_secs(deadline.saturating_sub(unix_now()));
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(MAX_SLEEP)).await;
    }
}
