//! Waiting for a condition without a fixed sleep.

use std::time::Duration;

/// Upper bound of every wait in a test. Nothing takes this long unless it is broken.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(180);

/// The first pause between two polls.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
/// The longest pause between two polls.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// The result of one poll: `bool` says whether a condition holds, `Option` holds what was waited for.
pub trait PollOutcome {
    /// What [`eventually`] returns.
    type Value;

    /// Returns the value if the wait is over.
    fn into_value(self) -> Option<Self::Value>;
}

impl PollOutcome for bool {
    type Value = ();

    fn into_value(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> PollOutcome for Option<T> {
    type Value = T;

    fn into_value(self) -> Option<T> {
        self
    }
}

/// Polls until a condition holds or a value is there, for [`TEST_TIMEOUT`] at most.
///
/// # Panics
/// If the time is over; the message is `never (within …): {what}`.
pub async fn eventually<O: PollOutcome>(what: &str, poll: impl AsyncFnMut() -> O) -> O::Value {
    eventually_within(TEST_TIMEOUT, what, poll).await
}

/// Polls like [`eventually`], for `limit` at most.
///
/// # Panics
/// If the time is over.
pub async fn eventually_within<O: PollOutcome>(
    limit: Duration,
    what: &str,
    mut poll: impl AsyncFnMut() -> O,
) -> O::Value {
    let polled = async {
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(value) = poll().await.into_value() {
                return value;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    };
    tokio::time::timeout(limit, polled).await.unwrap_or_else(|_| panic!("never (within {limit:?}): {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn condition_is_polled_until_it_holds() {
        let mut polls = 0;
        eventually("the third poll", async || {
            polls += 1;
            polls == 3
        })
        .await;
        assert_eq!(polls, 3);
        assert_eq!(eventually("a value", async || Some(7)).await, 7);
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "never (within 180s): pigs fly")]
    async fn unmet_condition_fails_after_the_deadline() {
        eventually("pigs fly", async || false).await;
    }
}
