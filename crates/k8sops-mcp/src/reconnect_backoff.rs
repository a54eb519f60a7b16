//! Delays between attempts to connect.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};

const FIRST_DELAY: Duration = Duration::from_millis(500);

/// Delays that double up to a limit. Each is shortened at random by up to a half, so that the replicas of a service do not
/// reconnect to a server at the same instant.
pub(crate) struct ReconnectBackoff {
    delays: <ExponentialBuilder as backon::BackoffBuilder>::Backoff,
    max_delay: Duration,
}

impl ReconnectBackoff {
    pub(crate) fn new(max_delay: Duration) -> Self {
        // backon lengthens each delay at random by up to its double, so it is given the halves.
        let delays = ExponentialBuilder::new()
            .with_min_delay(FIRST_DELAY.min(max_delay) / 2)
            .with_max_delay(max_delay / 2)
            .without_max_times()
            .with_jitter()
            .build();
        Self { delays, max_delay }
    }

    pub(crate) fn next_delay(&mut self) -> Duration {
        self.delays.next().unwrap_or(self.max_delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_limit_with_jitter() {
        let mut backoff = ReconnectBackoff::new(Duration::from_secs(3));
        for full in [500, 1000, 2000, 3000, 3000].map(Duration::from_millis) {
            let delay = backoff.next_delay();
            assert!(delay <= full && delay >= full / 2, "{delay:?} of {full:?}");
        }
    }
}
