//! When a failed model call is tried again. A value and a function: the waiting is the caller's.

use std::time::Duration;

use crate::ModelError;

/// The ceiling of the first wait; it doubles from attempt to attempt.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait that we choose ourselves.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// How often and after what wait a model call is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    max_attempts: u32,
    max_wait: Duration,
}

impl RetryPolicy {
    /// A policy of `max_attempts` calls in all, the first included, with waits of at most `max_wait` in all between them.
    #[must_use]
    pub fn new(max_attempts: u32, max_wait: Duration) -> Self {
        Self { max_attempts, max_wait }
    }

    /// How long to wait after the attempt of this number (the first is 1) failed with `error`, when `waited` has gone by in
    /// waits already; `None`: give up.
    ///
    /// Waits grow from half a second to twenty, each with jitter, so that sessions which failed together do not come back
    /// together. A provider's `Retry-After` is honoured: the wait is never shorter. Asked for more than is left, the call
    /// fails at once and says so: nobody on call wants to look at a silent chat for an hour.
    #[must_use]
    pub fn retry_delay(&self, attempt: u32, waited: Duration, error: &ModelError) -> Option<Duration> {
        if !error.is_retryable() || attempt >= self.max_attempts {
            return None;
        }
        let left = self.max_wait.saturating_sub(waited);
        let ceiling = FIRST_WAIT.saturating_mul(1 << attempt.saturating_sub(1).min(10)).min(MAX_WAIT);
        let own = ceiling.mul_f64(0.5 + 0.5 * fastrand::f64());
        match error {
            ModelError::RateLimited { retry_after: Some(asked), .. } => {
                (*asked <= left).then(|| *asked + FIRST_WAIT.mul_f64(0.5 * fastrand::f64()))
            }
            _ => (own <= left).then_some(own),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_within_bounds_and_attempts_end() {
        let policy = RetryPolicy::new(40, Duration::from_secs(3600));
        let error = ModelError::Overloaded("busy".into());
        for attempt in 1..40 {
            let ceiling = Duration::from_secs(1 << (attempt - 1).min(5)).min(MAX_WAIT);
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
            ModelError::Auth(String::new()),
            ModelError::InvalidRequest(String::new()),
            ModelError::ContextTooLong(String::new()),
        ] {
            assert_eq!(policy.retry_delay(1, Duration::ZERO, &error), None);
        }
    }

    #[test]
    fn retry_after_is_a_lower_bound() {
        let policy = RetryPolicy::new(4, Duration::from_mins(1));
        let asked =
            |secs| ModelError::RateLimited { retry_after: Some(Duration::from_secs(secs)), message: String::new() };
        for secs in [0, 7, 60] {
            let delay = policy.retry_delay(1, Duration::ZERO, &asked(secs)).unwrap();
            assert!(
                delay >= Duration::from_secs(secs) && delay <= Duration::from_millis(secs * 1000 + 500),
                "{delay:?}"
            );
        }
        assert_eq!(policy.retry_delay(1, Duration::ZERO, &asked(61)), None);
        assert!(
            policy
                .retry_delay(1, Duration::ZERO, &ModelError::RateLimited { retry_after: None, message: String::new() })
                .is_some()
        );
    }

    #[test]
    fn total_wait_is_bounded() {
        let policy = RetryPolicy::new(100, Duration::from_secs(30));
        let error = ModelError::Overloaded("busy".into());
        let (mut waited, mut attempts) = (Duration::ZERO, 1);
        while let Some(wait) = policy.retry_delay(attempts, waited, &error) {
            waited += wait;
            attempts += 1;
        }
        assert!(waited <= Duration::from_secs(30) && attempts < 10, "{waited:?} in {attempts}");
        let asked = ModelError::RateLimited { retry_after: Some(Duration::from_secs(20)), message: String::new() };
        assert!(policy.retry_delay(1, Duration::from_secs(5), &asked).is_some());
        assert_eq!(policy.retry_delay(2, Duration::from_secs(15), &asked), None);
    }
}
