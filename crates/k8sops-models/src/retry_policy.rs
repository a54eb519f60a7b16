//! The policy for retries of model calls. It only computes the delay: the caller waits.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};

use crate::ModelError;

/// The backoff: 0.5 s, 1 s, 2 s, … up to 10 s, each with up to the same time again as jitter.
const BACKOFF: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(500))
    .with_factor(2.0)
    .with_max_delay(Duration::from_secs(10))
    .with_jitter()
    .without_max_times();
/// The maximum of the jitter that is added to a provider's `Retry-After`.
const RETRY_AFTER_JITTER: Duration = Duration::from_millis(500);

/// How often and after which delay a model call is retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    max_attempts: u32,
    max_wait: Duration,
}

impl RetryPolicy {
    /// Creates a policy of at most `max_attempts` calls, including the first, with delays of at most `max_wait` in
    /// total.
    #[must_use]
    pub fn new(max_attempts: u32, max_wait: Duration) -> Self {
        Self { max_attempts, max_wait }
    }

    /// Returns the delay before the next attempt, or `None` to give up. `attempt` is the number of the attempt that
    /// failed with `error`, starting at 1, and `waited` the total of all delays so far.
    ///
    /// Delays grow exponentially from 0.5 s to 20 s and have jitter, so that sessions which failed together do not
    /// retry together. The delay is never shorter than a provider's `Retry-After`. If the provider asks for more than
    /// what is left of `max_wait`, the call fails immediately rather than keep the user waiting.
    #[must_use]
    pub fn retry_delay(&self, attempt: u32, waited: Duration, error: &ModelError) -> Option<Duration> {
        if !error.is_retryable() || attempt >= self.max_attempts {
            return None;
        }
        let left = self.max_wait.saturating_sub(waited);
        if let Some(retry_after) = error.details.retry_after {
            return (retry_after <= left).then(|| retry_after + RETRY_AFTER_JITTER.mul_f64(fastrand::f64()));
        }
        let delay = BACKOFF.build().nth(attempt.saturating_sub(1) as usize)?;
        (delay <= left).then_some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ModelErrorKind, ProviderErrorDetails};

    fn rate_limited(retry_after: Option<Duration>) -> ModelError {
        let details = ProviderErrorDetails { retry_after, ..ProviderErrorDetails::default() };
        ModelError::new(ModelErrorKind::RateLimited, "").with_details(details)
    }

    #[test]
    fn waits_grow_within_bounds_and_attempts_end() {
        let policy = RetryPolicy::new(40, Duration::from_secs(3600));
        let error = ModelError::new(ModelErrorKind::Overloaded, "busy");
        for attempt in 1..40 {
            let ceiling = Duration::from_secs(1 << (attempt - 1).min(5)).min(Duration::from_secs(20));
            for _ in 0..50 {
                let delay = policy.retry_delay(attempt, Duration::ZERO, &error).unwrap();
                assert!(delay >= ceiling / 2 && delay <= ceiling, "attempt {attempt}: {delay:?}");
            }
        }
        assert_eq!(policy.retry_delay(40, Duration::ZERO, &error), None);
        assert_eq!(policy.retry_delay(u32::MAX, Duration::ZERO, &error), None);
    }

    #[test]
    fn permanent_errors_are_not_retried() {
        let policy = RetryPolicy::new(4, Duration::from_mins(1));
        for error in [
            ModelError::new(ModelErrorKind::Auth, ""),
            ModelError::new(ModelErrorKind::InvalidRequest, ""),
            ModelError::new(ModelErrorKind::ContextTooLong, ""),
        ] {
            assert_eq!(policy.retry_delay(1, Duration::ZERO, &error), None);
        }
    }

    #[test]
    fn retry_after_is_a_lower_bound() {
        let policy = RetryPolicy::new(4, Duration::from_mins(1));
        let asked = |secs| rate_limited(Some(Duration::from_secs(secs)));
        for secs in [0, 7, 60] {
            let delay = policy.retry_delay(1, Duration::ZERO, &asked(secs)).unwrap();
            assert!(
                delay >= Duration::from_secs(secs) && delay <= Duration::from_millis(secs * 1000 + 500),
                "{delay:?}"
            );
        }
        assert_eq!(policy.retry_delay(1, Duration::ZERO, &asked(61)), None);
        assert!(policy.retry_delay(1, Duration::ZERO, &rate_limited(None)).is_some());
    }

    #[test]
    fn total_wait_is_bounded() {
        let policy = RetryPolicy::new(100, Duration::from_secs(30));
        let error = ModelError::new(ModelErrorKind::Overloaded, "busy");
        let mut waited = Duration::ZERO;
        let mut attempts = 1;
        while let Some(wait) = policy.retry_delay(attempts, waited, &error) {
            waited += wait;
            attempts += 1;
        }
        assert!(waited <= Duration::from_secs(30) && attempts < 10, "{waited:?} in {attempts}");
        let asked = rate_limited(Some(Duration::from_secs(20)));
        assert!(policy.retry_delay(1, Duration::from_secs(5), &asked).is_some());
        assert_eq!(policy.retry_delay(2, Duration::from_secs(15), &asked), None);
    }
}
