//! Work that takes longer than a worker may be held.

use std::{future::pending, num::NonZero, panic::resume_unwind, sync::LazyLock, thread::available_parallelism};

use tokio::{sync::Semaphore, task::spawn_blocking};

/// Work on this many bytes takes at most some milliseconds: counting tokens, which is the slowest, has 10 to 20 MB/s.
const INLINE_BYTES: usize = 32 * 1024;

/// As many as there are cores: more at once would only take turns.
static POOL: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(available_parallelism().map_or(2, NonZero::get)));

/// Works on about this many bytes: at once if they are few, otherwise on another thread. The sessions of a worker share its thread,
/// and all of them would wait.
///
/// Never resolves if the runtime shuts down.
pub async fn run_long_work<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if bytes <= INLINE_BYTES { work() } else { offload_work(work).await }
}

/// Works on another thread, for work of which it is not known how long it takes.
///
/// Never resolves if the runtime shuts down.
pub async fn offload_work<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let permit = POOL.acquire().await;
    let done = spawn_blocking(work).await;
    drop(permit);
    match done.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => resume_unwind(panic),
        Err(Err(_)) => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn only_long_work_changes_the_thread() {
        let here = thread::current().id();
        assert_eq!(run_long_work(INLINE_BYTES, || thread::current().id()).await, here);
        assert_ne!(run_long_work(INLINE_BYTES + 1, || thread::current().id()).await, here);
        let failed = tokio::spawn(run_long_work(INLINE_BYTES + 1, || assert_eq!(1, 2, "the test lets it panic"))).await;
        assert!(failed.unwrap_err().is_panic());
    }
}
