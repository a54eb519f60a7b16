//! Threads that access files. Work waits in one queue, and one thread takes it, piece by piece: a burst of it wakes that thread,
//! and not as many as there are pieces. A thread that waits for the disk or for a lock lets another one take the next piece.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fmt, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex, MutexGuard};

/// Upper bound of threads. Beyond it, work waits.
const MAX_THREADS: usize = 256;
/// How long a thread waits for work before it ends.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

type Work = Box<dyn FnOnce() + Send>;

thread_local! {
    /// The queue of which this thread takes work.
    static OWN_QUEUE: RefCell<Option<Arc<QueueShared>>> = const { RefCell::new(None) };
}

/// The queue of a store.
pub(super) struct WorkQueue {
    shared: Arc<QueueShared>,
}

struct QueueShared {
    // Never held while work is done.
    state: Mutex<QueueState>,
    /// A thread became a taker.
    taker_named: Condvar,
}

#[derive(Default)]
struct QueueState {
    waiting: VecDeque<Work>,
    threads: usize,
    /// Threads that wait to become takers.
    idle: usize,
    /// Threads that take work, with those that were named and have not noticed.
    takers: usize,
    /// Takers that were named and have not noticed.
    named: usize,
    is_closed: bool,
}

impl WorkQueue {
    pub(super) fn new() -> Self {
        Self { shared: Arc::new(QueueShared { state: Mutex::default(), taker_named: Condvar::new() }) }
    }

    /// Adds work. It is done even if nothing waits for it.
    pub(super) fn push(&self, work: impl FnOnce() + Send + 'static) {
        let mut state = self.shared.state.lock();
        state.waiting.push_back(Box::new(work));
        if state.takers == 0 {
            self.shared.name_taker(state);
        }
    }
}

impl Drop for WorkQueue {
    fn drop(&mut self) {
        // What waits is done first. The store may be dropped by its own work, so that this does not wait for threads.
        self.shared.state.lock().is_closed = true;
        self.shared.taker_named.notify_all();
    }
}

impl fmt::Debug for WorkQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkQueue").finish_non_exhaustive()
    }
}

/// Does something that may wait for the disk or for another thread. Meanwhile, another thread takes what is in the queue.
pub(super) fn wait_in_work<T>(wait: impl FnOnce() -> T) -> T {
    // Within another wait, the thread takes no work already.
    let Some(queue) = OWN_QUEUE.take() else { return wait() };
    let _pause = TakerPause::start(queue);
    wait()
}

/// A taker that takes no work until this is dropped.
struct TakerPause(Arc<QueueShared>);

impl TakerPause {
    fn start(queue: Arc<QueueShared>) -> Self {
        let mut state = queue.state.lock();
        state.takers -= 1;
        if state.takers == 0 && !state.waiting.is_empty() {
            queue.name_taker(state);
        } else {
            drop(state);
        }
        Self(queue)
    }
}

impl Drop for TakerPause {
    fn drop(&mut self) {
        self.0.state.lock().takers += 1;
        OWN_QUEUE.set(Some(self.0.clone()));
    }
}

impl QueueShared {
    /// Lets another thread take work, which is started if none is idle.
    fn name_taker(self: &Arc<Self>, mut state: MutexGuard<'_, QueueState>) {
        if state.idle > state.named {
            state.named += 1;
            state.takers += 1;
            drop(state);
            self.taker_named.notify_one();
            return;
        }
        if state.threads >= MAX_THREADS {
            return;
        }
        state.threads += 1;
        state.takers += 1;
        drop(state);
        let queue = self.clone();
        if let Err(error) = thread::Builder::new().name("files".to_owned()).spawn(move || queue.take_until_idle()) {
            // The work is taken by a thread that is busy, or with the next piece.
            tracing::warn!(%error, "thread for files cannot be started");
            let mut state = self.state.lock();
            state.threads -= 1;
            state.takers -= 1;
            if state.threads == 0 {
                // Who waits for it gets an error.
                let aborted = mem::take(&mut state.waiting);
                drop(state);
                drop(aborted);
            }
        }
    }

    /// Takes work until there was none for some time.
    fn take_until_idle(self: Arc<Self>) {
        OWN_QUEUE.set(Some(self.clone()));
        let mut state = self.state.lock();
        loop {
            while let Some(work) = state.waiting.pop_front() {
                drop(state);
                // Who waits for it finds out, because what it would have sent is dropped.
                drop(catch_unwind(AssertUnwindSafe(work)));
                state = self.state.lock();
            }
            state.takers -= 1;
            state.idle += 1;
            let mut has_waited = false;
            while state.named == 0 && !has_waited && !state.is_closed {
                has_waited = self.taker_named.wait_for(&mut state, KEEP_ALIVE).timed_out();
            }
            state.idle -= 1;
            if state.named == 0 {
                state.threads -= 1;
                return;
            }
            state.named -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc::{Receiver, channel},
        thread::ThreadId,
    };

    use super::*;

    /// A test whose queue stands still fails after this time.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Adds work that waits until the test sends something, without letting another thread take work.
    fn occupy_taker(queue: &WorkQueue) -> std::sync::mpsc::Sender<()> {
        let (release, released) = channel::<()>();
        queue.push(move || {
            let _ = released.recv_timeout(PATIENCE);
        });
        release
    }

    fn push_thread_id(queue: &WorkQueue, done: &std::sync::mpsc::Sender<ThreadId>) {
        let done = done.clone();
        queue.push(move || done.send(thread::current().id()).unwrap());
    }

    fn receive<T>(receiver: &Receiver<T>) -> T {
        receiver.recv_timeout(PATIENCE).expect("the work is done")
    }

    #[test]
    fn a_burst_is_done_by_one_thread_in_its_order() {
        let queue = WorkQueue::new();
        let (done, results) = channel();
        let release = occupy_taker(&queue);
        for n in 0..100 {
            let done = done.clone();
            queue.push(move || done.send((n, thread::current().id())).unwrap());
        }
        release.send(()).unwrap();
        let (_, first) = receive(&results);
        for n in 1..100 {
            assert_eq!(receive(&results), (n, first));
        }
    }

    #[test]
    fn work_that_waits_does_not_hold_up_other_work() {
        let queue = WorkQueue::new();
        let (waiters, waits) = channel();
        for n in 0..3 {
            let (release, released) = channel::<()>();
            let waiters = waiters.clone();
            queue.push(move || {
                waiters.send((n, release)).unwrap();
                wait_in_work(|| released.recv_timeout(PATIENCE)).unwrap();
            });
        }
        // All of them wait at the same time, and then more work is done.
        let releases: Vec<_> = (0..3).map(|_| receive(&waits)).collect();
        let (done, results) = channel();
        push_thread_id(&queue, &done);
        receive(&results);
        assert_eq!(releases.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [0, 1, 2]);
        for (_, release) in releases {
            release.send(()).unwrap();
        }
        // A thread that has waited takes work again.
        for _ in 0..10 {
            push_thread_id(&queue, &done);
            receive(&results);
        }
    }

    #[test]
    fn wait_within_a_wait_is_one_wait() {
        let queue = WorkQueue::new();
        let (done, results) = channel();
        for _ in 0..2 {
            let done = done.clone();
            queue.push(move || {
                wait_in_work(|| wait_in_work(|| ()));
                done.send(()).unwrap();
            });
            receive(&results);
        }
    }

    #[test]
    fn work_that_panics_does_not_stop_the_queue() {
        let queue = WorkQueue::new();
        let (done, results) = channel();
        for _ in 0..3 {
            queue.push(|| panic!("the test lets it panic"));
            queue.push(|| wait_in_work(|| panic!("the test lets it panic")));
            push_thread_id(&queue, &done);
        }
        for _ in 0..3 {
            receive(&results);
        }
    }

    #[test]
    fn what_waits_is_done_after_the_queue_is_dropped() {
        let queue = WorkQueue::new();
        let (done, results) = channel();
        let release = occupy_taker(&queue);
        push_thread_id(&queue, &done);
        let shared = Arc::downgrade(&queue.shared);
        drop(queue);
        release.send(()).unwrap();
        receive(&results);
        drop(done);
        // The thread ends at once.
        let ended = std::time::Instant::now() + PATIENCE;
        while shared.strong_count() > 0 {
            assert!(std::time::Instant::now() < ended, "the thread ends");
            thread::yield_now();
        }
    }
}
