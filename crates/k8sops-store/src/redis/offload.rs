//! Long work off the workers of the runtime: while a worker is busy, its timers and connections may wait, and with them the
//! leases and commits of all sessions.

use tokio::task::spawn_blocking;

use k8sops_core::StoreError;

/// Parsing this takes about a millisecond.
const INLINE_BYTES: usize = 256 * 1024;

/// Works on values of this many bytes: on another thread if they are many.
///
/// # Errors
/// Those of the work; `Unavailable` if the runtime shuts down.
pub(super) async fn offload_large<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    if bytes <= INLINE_BYTES {
        return work();
    }
    let done = spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(StoreError::unavailable("work on a large value failed", error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn thread_of(bytes: usize) -> std::thread::ThreadId {
        offload_large(bytes, || Ok(std::thread::current().id())).await.unwrap()
    }

    #[tokio::test]
    async fn only_large_values_change_the_thread() {
        let here = std::thread::current().id();
        assert_eq!(thread_of(INLINE_BYTES).await, here);
        assert_ne!(thread_of(INLINE_BYTES + 1).await, here);
    }
}
