//! The id of a request, which its answer, its problem documents and its log lines carry.

use std::{future::Future, sync::Arc};

use uuid::Uuid;

/// The header in which a client may send an id, and in which the answer carries it.
pub const REQUEST_ID_HEADER: &str = "x-request-id";
/// Upper bound of the length of an id that a client sends, in characters.
const MAX_LENGTH: usize = 64;

tokio::task_local! {
    static CURRENT_ID: Arc<str>;
}

/// Returns the client's id if it is safe in a log line and a header, else a new one.
#[must_use]
pub fn accept_or_generate(sent_by_client: Option<&str>) -> Arc<str> {
    let is_safe = |id: &&str| {
        (1..=MAX_LENGTH).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
    };
    sent_by_client.filter(is_safe).map_or_else(|| Uuid::now_v7().to_string().into(), Into::into)
}

/// Runs a future with `id` as its [`current`] request id.
pub async fn scope<T>(id: Arc<str>, future: impl Future<Output = T>) -> T {
    CURRENT_ID.scope(id, future).await
}

/// Returns the id of the request that this task handles.
#[must_use]
pub fn current() -> Option<Arc<str>> {
    CURRENT_ID.try_with(Arc::clone).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn unsafe_request_ids_are_replaced() {
        assert_eq!(&*accept_or_generate(Some("abc-1.2:3_4")), "abc-1.2:3_4");
        for bad in [None, Some(""), Some("has space"), Some("new\nline"), Some("ünicode"), Some(&*"x".repeat(65))] {
            assert!(accept_or_generate(bad).parse::<Uuid>().is_ok(), "{bad:?}");
        }
        assert_eq!(current(), None);
        assert_eq!(scope("a".into(), async { current() }).await.as_deref(), Some("a"));
    }
}
