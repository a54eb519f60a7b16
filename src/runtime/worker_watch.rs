//! Tells which task holds a worker for too long: all sessions of the thread wait for it.

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    pin::pin,
    time::Duration,
};

use parking_lot::Mutex;

/// How long a task may compute before it lets others have a turn: 5 ms, but code without optimization is about twenty times slower.
const MAX_HOLD: Duration = Duration::from_millis(100);

/// The longest time that each kind of task has held its thread, if it was too long.
#[derive(Debug, Default)]
pub(super) struct WorkerWatch {
    // A synchronous mutex: held for an update, never across an await.
    holds: Mutex<BTreeMap<&'static str, Duration>>,
}

impl WorkerWatch {
    /// Runs a task and measures the time that it computes without a pause. Time in which the thread does not run, because the machine
    /// is busy, does not count.
    ///
    /// Only builds with debug assertions measure: each reading of the clock is a system call.
    pub(super) async fn watch_task<F: Future>(&self, task: &'static str, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|context| {
            let before = thread_time();
            let polled = future.as_mut().poll(context);
            let held = thread_time().saturating_sub(before);
            if held > MAX_HOLD {
                self.record_hold(task, held);
            }
            polled
        })
        .await
    }

    fn record_hold(&self, task: &'static str, held: Duration) {
        tracing::debug!(task, ?held, "worker held too long");
        let mut holds = self.holds.lock();
        let longest = holds.entry(task).or_default();
        *longest = held.max(*longest);
    }

    /// Returns the tasks that held their thread too long, each with its longest time.
    pub(super) fn long_holds(&self) -> BTreeMap<&'static str, Duration> {
        self.holds.lock().clone()
    }
}

/// The time that this thread has computed. Zero where it is not measured.
fn thread_time() -> Duration {
    #[cfg(all(target_os = "linux", debug_assertions))]
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
        let watch = WorkerWatch::default();
        let compute = |time: Duration| {
            let before = thread_time();
            while thread_time().saturating_sub(before) < time {}
        };
        let in_steps = async {
            for _ in 0..4 {
                compute(MAX_HOLD / 3);
                yield_now().await;
            }
        };
        watch.watch_task("in steps", in_steps).await;
        watch.watch_task("sleeping", tokio::time::sleep(MAX_HOLD * 2)).await;
        watch.watch_task("at once", async { compute(MAX_HOLD * 2) }).await;
        let holds = watch.long_holds();
        assert!(holds["at once"] >= MAX_HOLD * 2, "{holds:?}");
        assert_eq!(holds.len(), 1, "{holds:?}");
    }
}
