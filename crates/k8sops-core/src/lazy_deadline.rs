//! A limit on waits that mostly end long before it.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

/// How far away the timer is set at first. Any wait sets it to its own deadline before it can fire.
const INITIAL_DELAY: Duration = Duration::from_secs(3600);

/// Limits one wait after the other with a single timer. The timer is not moved when a wait ends, as a timeout would be that is
/// created for each wait: if it fires too early, it is set to the deadline of the current wait.
#[derive(Debug)]
pub struct LazyDeadline {
    timer: Pin<Box<Sleep>>,
}

impl LazyDeadline {
    /// Creates a deadline. Must be called on an async runtime.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a default must not need an async runtime")]
    pub fn new() -> Self {
        Self { timer: Box::pin(sleep(INITIAL_DELAY)) }
    }

    /// Waits for `future` until `deadline`. Returns `None` if it was not ready by then.
    ///
    /// Cancel safe if `future` is.
    pub async fn wait_until<F: Future>(&mut self, deadline: Instant, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            if self.timer.deadline() > deadline {
                self.timer.as_mut().reset(deadline);
            }
            while self.timer.as_mut().poll(context).is_ready() {
                if Instant::now() >= deadline {
                    return Poll::Ready(None);
                }
                self.timer.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_wait_has_its_own_deadline() {
        let mut limit = LazyDeadline::new();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(limit.wait_until(at(10), sleep(Duration::from_secs(4))).await, Some(()));
        assert_eq!(limit.wait_until(at(16), sleep(Duration::from_secs(5))).await, Some(()), "4 s + 5 s");
        assert_eq!(limit.wait_until(at(17), pending::<()>()).await, None);
        assert_eq!(start.elapsed(), Duration::from_secs(17), "the timer of the first wait does not end a later one");
        assert_eq!(limit.wait_until(at(8000), sleep(Duration::from_secs(7200))).await, Some(()));
        assert_eq!(limit.wait_until(at(7218), pending::<()>()).await, None, "an earlier deadline than the last one");
        assert_eq!(start.elapsed(), Duration::from_secs(7218));
        assert_eq!(limit.wait_until(at(0), async { 1 }).await, Some(1), "what is ready needs no time");
        assert_eq!(limit.wait_until(at(0), pending::<()>()).await, None);
    }
}
