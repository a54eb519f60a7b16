//! Tells which task holds a worker for too long: all sessions of the thread wait for it.
//!
//! Every kind of task on a worker is watched: connections with their requests, streams and WebSockets, session actors, runs, and what
//! they start. Only builds with debug assertions, or with the feature `worker-watch`, measure: each reading of the clock is a system
//! call.

use std::{cell::RefCell, collections::BTreeMap, fmt::Display, sync::Arc, time::Duration};

#[cfg(any(debug_assertions, feature = "worker-watch"))]
use std::future::poll_fn;

use parking_lot::Mutex;

/// What holds a worker for less time is not recorded.
#[cfg(any(debug_assertions, feature = "worker-watch"))]
const MIN_RECORDED: Duration = Duration::from_millis(1);

thread_local! {
    /// What the task that is polled works on, if it has said so.
    static CURRENT_WORK: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The longest time for which each kind of task has held its thread.
#[derive(Debug, Default)]
pub(super) struct WorkerWatch {
    // A synchronous mutex: held for an update, never across an await.
    holds: Mutex<BTreeMap<String, Duration>>,
}

impl WorkerWatch {
    /// Runs a task and measures the time that it computes without a pause. Time in which the thread does not run, because the machine
    /// is busy, does not count.
    #[cfg(any(debug_assertions, feature = "worker-watch"))]
    pub(super) fn watch_task<F: Future>(
        self: &Arc<Self>,
        task: &'static str,
        future: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        let watch = self.clone();
        let mut future = Box::pin(future);
        let mut name = task.to_owned();
        poll_fn(move |context| {
            CURRENT_WORK.take();
            let before = thread_time();
            let polled = future.as_mut().poll(context);
            let held = thread_time().saturating_sub(before);
            if let Some(work) = CURRENT_WORK.take() {
                name = format!("{task}: {work}");
            }
            if held >= MIN_RECORDED {
                watch.record_hold(&name, held);
            }
            polled
        })
    }

    /// Returns the task as it is: this build does not measure.
    #[cfg(not(any(debug_assertions, feature = "worker-watch")))]
    pub(super) fn watch_task<F: Future>(self: &Arc<Self>, _: &'static str, future: F) -> F {
        future
    }

    #[cfg(any(debug_assertions, feature = "worker-watch"))]
    fn record_hold(&self, name: &str, held: Duration) {
        let mut holds = self.holds.lock();
        if let Some(longest) = holds.get_mut(name) {
            *longest = held.max(*longest);
        } else {
            holds.insert(name.to_owned(), held);
        }
    }

    /// Returns the longest time for which each kind of task has held its thread.
    pub(super) fn longest_holds(&self) -> BTreeMap<String, Duration> {
        self.holds.lock().clone()
    }
}

/// Says what the task that is polled works on from now on, so that its holds have that name.
pub(super) fn name_current_work(work: impl Display) {
    if cfg!(any(debug_assertions, feature = "worker-watch")) {
        CURRENT_WORK.set(Some(work.to_string()));
    }
}

/// The time that this thread has computed. Zero where the system does not say it.
#[cfg(any(debug_assertions, feature = "worker-watch"))]
fn thread_time() -> Duration {
    #[cfg(target_os = "linux")]
    if let Ok(time) = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID) {
        return Duration::from(time);
    }
    Duration::ZERO
}

#[cfg(all(test, target_os = "linux", debug_assertions))]
mod tests {
    use super::*;
    use tokio::task::yield_now;

    #[tokio::test]
    async fn only_what_computes_without_a_pause_is_told() {
        const LIMIT: Duration = Duration::from_millis(100);
        let watch = Arc::new(WorkerWatch::default());
        let compute = |time: Duration| {
            let before = thread_time();
            while thread_time().saturating_sub(before) < time {}
        };
        let in_steps = async {
            for _ in 0..4 {
                compute(LIMIT / 3);
                yield_now().await;
            }
        };
        watch.watch_task("in steps", in_steps).await;
        watch.watch_task("sleeping", tokio::time::sleep(LIMIT * 2)).await;
        let at_once = async {
            name_current_work("sum");
            yield_now().await;
            compute(LIMIT * 2);
        };
        watch.watch_task("at once", at_once).await;
        let mut holds = watch.longest_holds();
        assert!(holds["at once: sum"] >= LIMIT * 2, "{holds:?}");
        holds.retain(|_, held| *held > LIMIT);
        assert_eq!(holds.len(), 1, "{holds:?}");
    }
}
