//! What ended a task.

use tokio::task::JoinError;

/// Returns the message of a panic.
pub(crate) fn panic_text(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => match payload.downcast::<String>() {
            Ok(text) => *text,
            Err(payload) => payload.downcast::<&str>().map_or_else(|_| "a panic".to_owned(), |text| (*text).to_owned()),
        },
        Err(error) => error.to_string(),
    }
}
