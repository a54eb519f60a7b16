//! The threads on which sessions live.
//!
//! A session actor, its run, the connection to its model and the stream of the client that sent the message share one thread, so
//! that a token wakes no other thread on its way. Only the streams of further clients can be on other threads.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::RwLock;
use tokio::runtime::{Handle, Id};

/// The async runtimes of the HTTP workers, each of one thread, and the one that built the service.
#[derive(Debug)]
pub(super) struct WorkerThreads {
    base: Handle,
    workers: Arc<RwLock<Vec<Handle>>>,
    next: AtomicUsize,
}

impl WorkerThreads {
    /// Creates the threads of a service without HTTP workers. Must be called on an async runtime.
    pub(super) fn new() -> Self {
        Self { base: Handle::current(), workers: Arc::default(), next: AtomicUsize::new(0) }
    }

    /// Adds the async runtime of the current thread until it ends. One that was added before stays as it is.
    pub(super) fn add_current(&self) {
        let current = Handle::current();
        let registration = {
            let mut workers = self.workers.write();
            if workers.iter().any(|worker| worker.id() == current.id()) {
                return;
            }
            workers.push(current.clone());
            WorkerRegistration { workers: self.workers.clone(), id: current.id() }
        };
        // A runtime drops its tasks when it ends, whatever ends it.
        current.spawn(async move {
            let _registration = registration;
            pending::<()>().await;
        });
    }

    /// Returns the runtime of the service, which is not limited to one thread.
    pub(super) fn base(&self) -> &Handle {
        &self.base
    }

    /// Returns the preferred worker, or that of the current thread. If neither is one, returns one worker after the other;
    /// without workers, the runtime of the service.
    pub(super) fn choose_worker(&self, preferred: Option<Id>) -> Handle {
        let current = Handle::try_current().ok().map(|current| current.id());
        let workers = self.workers.read();
        let find = |id: Id| workers.iter().find(|worker| worker.id() == id);
        if let Some(worker) = preferred.and_then(find).or_else(|| current.and_then(find)) {
            return worker.clone();
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed).checked_rem(workers.len());
        turn.and_then(|turn| workers.get(turn)).unwrap_or(&self.base).clone()
    }

    /// Returns the number of alive tasks on all threads.
    pub(super) fn alive_task_count(&self) -> usize {
        let workers = self.workers.read();
        workers.iter().chain([&self.base]).map(|runtime| runtime.metrics().num_alive_tasks()).sum()
    }
}

/// Removes a worker when its runtime ends.
struct WorkerRegistration {
    workers: Arc<RwLock<Vec<Handle>>>,
    id: Id,
}

impl Drop for WorkerRegistration {
    fn drop(&mut self) {
        self.workers.write().retain(|worker| worker.id() != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::runtime::Builder;

    #[test]
    fn sessions_live_on_workers_that_run() {
        let build = || Builder::new_current_thread().build().unwrap();
        let (base, first, second) = (build(), build(), build());
        let threads = base.block_on(async { WorkerThreads::new() });
        let choose = || threads.choose_worker(None).id();
        assert_eq!(choose(), base.handle().id(), "there are no workers yet");
        for worker in [&first, &second, &first] {
            worker.block_on(async { threads.add_current() });
        }
        let ids = [first.handle().id(), second.handle().id()];
        assert_eq!(first.block_on(async { choose() }), ids[0]);
        assert_eq!(second.block_on(async { choose() }), ids[1]);
        let prefer = |id| second.block_on(async { threads.choose_worker(Some(id)).id() });
        assert_eq!([ids[0], base.handle().id()].map(prefer), ids, "only a worker can be preferred");
        let of_others: Vec<Id> = (0..4).map(|_| base.block_on(async { choose() })).collect();
        assert!(of_others.chunks(2).all(|pair| ids.iter().all(|id| pair.contains(id))), "both in turn: {of_others:?}");
        drop(first);
        assert_eq!([choose(), choose()], [ids[1]; 2], "a worker that has ended gets no session");
        drop(second);
        assert_eq!(choose(), base.handle().id());
    }
}
