//! Lets through one of many log lines that a client can cause.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long the lines after one that was let through are held back.
const PERIOD: Duration = Duration::from_secs(10);

/// Lets through one log line per period.
#[derive(Debug, Default)]
pub struct LogThrottle(Mutex<Option<Instant>>);

impl LogThrottle {
    /// Whether a line may be logged now. If so, the next ones are held back.
    pub(super) fn admit_line(&self) -> bool {
        let mut last = self.0.lock();
        let is_due = last.is_none_or(|at| at.elapsed() >= PERIOD);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_period_is_let_through() {
        let throttle = LogThrottle::default();
        assert!(throttle.admit_line() && !throttle.admit_line());
        *throttle.0.lock() = Instant::now().checked_sub(PERIOD);
        assert!(throttle.admit_line() && !throttle.admit_line());
    }
}
