//! Long work off the workers of the runtime: while a worker is busy, its timers and connections may wait, and with them the
//! leases and commits of all sessions.

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::{block_in_place, spawn_blocking},
};

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

/// Works on borrowed values that may be large. The other tasks of this worker move to another one; a runtime with one worker
/// has none.
#[expect(clippy::disallowed_methods, reason = "the flavor of the runtime is checked")]
pub(super) fn offload_in_place<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(work),
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    async fn thread_of(bytes: usize) -> std::thread::ThreadId {
        offload_large(bytes, || Ok(std::thread::current().id())).await.unwrap()
    }

    #[tokio::test]
    async fn only_large_values_change_the_thread() {
        let here = std::thread::current().id();
        assert_eq!(thread_of(INLINE_BYTES).await, here);
        assert_ne!(thread_of(INLINE_BYTES + 1).await, here);
        assert_eq!(offload_in_place(|| 1), 1, "also on a runtime with one worker");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn timers_fire_while_a_worker_is_busy() {
        let busy = Duration::from_millis(1_000);
        let ticking = tokio::spawn(async move {
            let began = Instant::now();
            let mut latest = Duration::ZERO;
            while began.elapsed() < busy * 2 {
                let last = Instant::now();
                tokio::time::sleep(Duration::from_millis(5)).await;
                latest = latest.max(last.elapsed());
            }
            latest
        });
        let working = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            offload_in_place(|| std::thread::park_timeout(busy));
        });
        working.await.unwrap();
        let latest = ticking.await.unwrap();
        assert!(latest < busy / 2, "a timer was {latest:?} late");
    }
}
