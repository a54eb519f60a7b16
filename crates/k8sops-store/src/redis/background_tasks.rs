//! Writes whose results no caller waits for.

use std::{future::Future, pin::pin};

use futures_util::future::{Either, select};
use parking_lot::Mutex;
use tokio::task::JoinSet;

/// Tasks of a store, which end with it.
#[derive(Debug, Default)]
pub(super) struct BackgroundTasks(
    // A synchronous mutex: held to start a task, never across an await.
    Mutex<JoinSet<()>>,
);

impl BackgroundTasks {
    /// Starts a write and then `commit`, and returns the result of `commit` as soon as there is one. A write that takes longer
    /// becomes a task.
    pub(super) async fn write_beside<T>(
        &self,
        write: impl Future<Output = ()> + Send + 'static,
        commit: impl Future<Output = T>,
    ) -> T {
        match select(Box::pin(write), pin!(commit)).await {
            Either::Left(((), commit)) => commit.await,
            Either::Right((committed, write)) => {
                self.spawn(write);
                committed
            }
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use tokio::{sync::oneshot, task::yield_now};

    use super::*;

    #[tokio::test]
    async fn slow_write_does_not_delay_the_commit_beside_it() {
        let tasks = BackgroundTasks::default();
        let steps = Arc::new(AtomicUsize::new(0));
        let (open, is_open) = oneshot::channel();
        let (done, is_done) = oneshot::channel();
        let in_write = steps.clone();
        let write = async move {
            assert_eq!(in_write.fetch_add(1, Ordering::SeqCst), 0, "it begins first");
            is_open.await.unwrap();
            done.send(()).unwrap();
        };
        let commit = async {
            yield_now().await;
            steps.fetch_add(1, Ordering::SeqCst)
        };
        assert_eq!(tasks.write_beside(write, commit).await, 1);
        open.send(()).unwrap();
        is_done.await.expect("the write goes on");
    }

    #[tokio::test]
    async fn quick_write_becomes_no_task() {
        let tasks = BackgroundTasks::default();
        assert_eq!(tasks.write_beside(async {}, async { 7 }).await, 7);
        assert!(tasks.0.lock().is_empty());
        // Tasks that have ended are not kept.
        for _ in 0..3 {
            tasks.write_beside(yield_now(), async {}).await;
            yield_now().await;
        }
        assert_eq!(tasks.0.lock().len(), 1);
        tasks.write_beside(pending::<()>(), async {}).await;
        assert_eq!(tasks.0.lock().len(), 1);
    }
}
