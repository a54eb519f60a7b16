//! The wait between the attempts of a model call. Every retry of this crate waits here.

use std::time::Duration;

use k8sops_core::SessionWarning;
use k8sops_models::{ModelError, RetryPolicy};

/// Counts the failed attempts of a model call and the time spent waiting between them.
pub(crate) struct RetrySchedule {
    policy: RetryPolicy,
    failed_attempts: u32,
    total_delay: Duration,
}

/// A retry that the policy allows, after a delay.
pub(crate) struct ScheduledRetry {
    failed_attempts: u32,
    delay: Duration,
}

impl RetrySchedule {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        Self { policy, failed_attempts: 0, total_delay: Duration::ZERO }
    }

    /// Counts a failed attempt. Returns the next one, or `None` to give up.
    pub(crate) fn schedule_retry(&mut self, error: &ModelError) -> Option<ScheduledRetry> {
        self.failed_attempts += 1;
        let delay = self.policy.retry_delay(self.failed_attempts, self.total_delay, error)?;
        self.total_delay += delay;
        Some(ScheduledRetry { failed_attempts: self.failed_attempts, delay })
    }

    /// Starts the attempts of another call. The time spent waiting is still counted.
    pub(crate) fn start_next_call(&mut self) {
        self.failed_attempts = 0;
    }
}

impl ScheduledRetry {
    /// Returns the warning that announces the retry to clients.
    pub(crate) fn warning(&self, error: &ModelError) -> SessionWarning {
        let seconds = self.delay.as_secs_f64();
        let message = format!("{error}; trying again in {seconds:.1} s (attempt {} failed)", self.failed_attempts);
        SessionWarning {
            wait_seconds: Some((seconds * 10.0).round() / 10.0),
            ..SessionWarning::new(error.code(), message)
        }
    }

    /// Sleeps until the retry is due.
    pub(crate) async fn wait(self) {
        tokio::time::sleep(self.delay).await;
    }
}

#[cfg(test)]
mod tests {
    use k8sops_models::ModelErrorKind;

    use super::*;

    #[test]
    fn delay_of_earlier_calls_counts_and_their_attempts_do_not() {
        let mut retries = RetrySchedule::new(RetryPolicy::new(2, Duration::from_secs(10)));
        let limited = |seconds| {
            let limited = ModelError::new(ModelErrorKind::RateLimited, "slow down");
            limited.with_retry_after(Some(Duration::from_secs(seconds)))
        };
        assert_eq!(retries.schedule_retry(&limited(6)).map(|retry| retry.failed_attempts), Some(1));
        assert!(retries.schedule_retry(&limited(1)).is_none(), "the policy allows two attempts");
        retries.start_next_call();
        assert!(retries.schedule_retry(&limited(6)).is_none(), "6 s of 10 s are spent");
        retries.start_next_call();
        assert_eq!(retries.schedule_retry(&limited(3)).map(|retry| retry.failed_attempts), Some(1));
    }
}
