//! The id of a request, known to all that is done for it: in its answer, in problem documents and in log lines.

use std::{future::Future, sync::Arc};

use uuid::Uuid;

/// The header that brings an id, and takes it back.
pub const REQUEST_ID: &str = "x-request-id";
/// The most characters of an id that a client may bring.
const LONGEST: usize = 64;

tokio::task_local! {
    static CURRENT: Arc<str>;
}

/// The client's id if it is one that can stand in a log and a header, else a new one.
#[must_use]
pub fn id_of(brought: Option<&str>) -> Arc<str> {
    let fits = |id: &&str| {
        (1..=LONGEST).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
    };
    brought.filter(fits).map_or_else(|| Uuid::now_v7().to_string().into(), Into::into)
}

/// Does something for the request of this id.
pub async fn within<T>(id: Arc<str>, work: impl Future<Output = T>) -> T {
    CURRENT.scope(id, work).await
}

/// The id of the request that this is done for.
#[must_use]
pub fn current() -> Option<Arc<str>> {
    CURRENT.try_with(Arc::clone).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_id_is_the_clients_when_it_is_a_plain_word_and_a_new_one_otherwise() {
        assert_eq!(&*id_of(Some("abc-1.2:3_4")), "abc-1.2:3_4");
        for bad in [None, Some(""), Some("has space"), Some("new\nline"), Some("ünicode"), Some(&*"x".repeat(65))] {
            assert!(id_of(bad).parse::<Uuid>().is_ok(), "{bad:?}");
        }
        assert_eq!(current(), None);
        assert_eq!(within("a".into(), async { current() }).await.as_deref(), Some("a"));
    }
}
