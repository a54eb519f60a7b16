//! Waiting for a condition without a fixed sleep.

use std::time::Duration;

/// Upper bound of every wait in a test. Nothing takes this long unless it is broken.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(180);

/// The first pause between two polls.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
/// The longest pause between two polls.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// The result of one poll: `bool` says whether a condition holds, `Option` holds what was waited for, and the error of a
/// `Result` says what was found in its place.
pub trait PollOutcome {
    /// What [`eventually`] returns.
    type Value;

    /// Returns the value if the wait is over, otherwise what the message of a failed wait ends with.
    fn into_value(self) -> Result<Self::Value, String>;
}

impl PollOutcome for bool {
    type Value = ();

    fn into_value(self) -> Result<(), String> {
        self.then_some(()).into_value()
    }
}

impl<T> PollOutcome for Option<T> {
    type Value = T;

    fn into_value(self) -> Result<T, String> {
        self.ok_or_else(String::new)
    }
}

impl<T> PollOutcome for Result<T, String> {
    type Value = T;

    fn into_value(self) -> Self {
        self.map_err(|found| format!(": {found}"))
    }
}

/// Polls until a condition holds or a value is there, for [`TEST_TIMEOUT`] at most.
///
/// # Panics
/// If the time is over; the message is `never (within …): {what}`, followed by the last error of a poll that returns
/// `Result`.
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
    let mut found = String::new();
    let polled = async {
        let mut pause = FIRST_PAUSE;
        loop {
            match poll().await.into_value() {
                Ok(value) => return value,
                Err(error) => found = error,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    };
    let value = tokio::time::timeout(limit, polled).await;
    value.unwrap_or_else(|_| panic!("never (within {limit:?}): {what}{found}"))
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

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "never (within 180s): a second pig: found 1")]
    async fn failed_wait_shows_the_last_error() {
        eventually("a second pig", async || Err::<(), _>("found 1".to_owned())).await;
    }
}
