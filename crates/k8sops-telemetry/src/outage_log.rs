//! Failures of what is retried, as the log of the service has them: one line when they begin and one when they end, however
//! often and by however many tasks it is tried.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// A failure this long after the last one is a new outage, if no task has seen the end of the old one: its tasks may be gone.
const OUTAGE_GAP: Duration = Duration::from_secs(60);

/// Tells the first failure of an outage from the others. Shared by all tasks that retry the same thing.
#[derive(Debug, Default)]
pub struct OutageLog {
    // Held for a few fields, never across an await.
    state: Mutex<OutageState>,
}

#[derive(Debug, Default)]
struct OutageState {
    /// How many observers fail now.
    failing: usize,
    outage: Option<CurrentOutage>,
}

#[derive(Debug)]
struct CurrentOutage {
    began: Instant,
    last_failure: Instant,
    failures: u64,
}

/// Whether a failure begins an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutageStage {
    /// The first failure, which is worth a line.
    Begun,
    /// Another failure of the same outage.
    Lasting,
}

/// An outage that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedOutage {
    /// The time from the first failure to the success of the last task that failed.
    pub duration: Duration,
    /// The number of failures of all tasks.
    pub failures: u64,
}

impl OutageLog {
    /// Creates the observer of one task.
    #[must_use]
    pub fn observer(self: &Arc<Self>) -> OutageObserver {
        OutageObserver { log: self.clone(), is_failing: false }
    }
}

/// What one task sees of an outage.
#[derive(Debug)]
pub struct OutageObserver {
    log: Arc<OutageLog>,
    is_failing: bool,
}

impl OutageObserver {
    /// Counts a failed attempt.
    pub fn count_failure(&mut self) -> OutageStage {
        let now = Instant::now();
        let mut state = self.log.state.lock();
        if !std::mem::replace(&mut self.is_failing, true) {
            state.failing += 1;
        }
        let may_be_over = state.failing == 1;
        match &mut state.outage {
            Some(outage) if !may_be_over || now - outage.last_failure < OUTAGE_GAP => {
                outage.failures += 1;
                outage.last_failure = now;
                OutageStage::Lasting
            }
            outage => {
                *outage = Some(CurrentOutage { began: now, last_failure: now, failures: 1 });
                OutageStage::Begun
            }
        }
    }

    /// Counts a success. Returns the outage if this was the last task that failed.
    pub fn count_success(&mut self) -> Option<EndedOutage> {
        if !std::mem::take(&mut self.is_failing) {
            return None;
        }
        let mut state = self.log.state.lock();
        state.failing -= 1;
        let outage = if state.failing == 0 { state.outage.take() } else { None }?;
        Some(EndedOutage { duration: outage.began.elapsed(), failures: outage.failures })
    }
}

/// A task that ends while it fails has not seen the end of the outage.
impl Drop for OutageObserver {
    fn drop(&mut self) {
        if self.is_failing {
            self.log.state.lock().failing -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn outage_begins_and_ends_once_for_all_tasks() {
        let log = Arc::new(OutageLog::default());
        let [mut one, mut two] = [log.observer(), log.observer()];
        assert_eq!(one.count_success(), None);
        assert_eq!(one.count_failure(), OutageStage::Begun);
        assert_eq!([two.count_failure(), one.count_failure()], [OutageStage::Lasting; 2]);
        tokio::time::advance(100 * SECOND).await;
        assert_eq!(two.count_failure(), OutageStage::Lasting);
        assert_eq!(one.count_success(), None, "the other task still fails");
        assert_eq!(two.count_success(), Some(EndedOutage { duration: 100 * SECOND, failures: 4 }));
        assert_eq!(two.count_failure(), OutageStage::Begun);
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_that_come_and_go_do_not_repeat_the_line() {
        let log = Arc::new(OutageLog::default());
        assert_eq!(log.observer().count_failure(), OutageStage::Begun);
        for _ in 0..100 {
            tokio::time::advance(SECOND).await;
            assert_eq!(log.observer().count_failure(), OutageStage::Lasting);
        }
        tokio::time::advance(OUTAGE_GAP).await;
        assert_eq!(log.observer().count_failure(), OutageStage::Begun);
    }
}
