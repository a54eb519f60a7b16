//! A call in flight: receives its progress and its elicitations, and measures how much of its time is left.

use std::{sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use rmcp::model::ProgressNotificationParam;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    CallLimits, CallProgress, DeadlineExceeded, ElicitationAnswer, ElicitationHandler, ElicitationRequest,
    McpCallContext, ProgressCallback,
};

/// Open elicitations of one call; more are declined, because a user cannot answer that many at once.
const MAX_OPEN_ELICITATIONS: usize = 32;

/// One call, from its first request to its result. It stays the same when the server asks for input and the request is sent
/// again.
pub(crate) struct InFlightCall {
    progress: ProgressCallback,
    elicitation_handler: Option<Arc<dyn ElicitationHandler>>,
    limits: CallLimits,
    /// Never held across an await.
    clock: Mutex<CallClock>,
    /// Notified when the last open elicitation ends and the deadlines apply again.
    clock_resumed: Notify,
    /// Cancelled when the call ends, which withdraws its elicitations.
    ended: CancellationToken,
}

/// How much of its time a call has used.
struct CallClock {
    started_at: Instant,
    last_activity: Instant,
    /// The highest progress that was passed on.
    progress: f64,
    open_elicitations: usize,
    /// When the first of the open elicitations started.
    elicitation_started_at: Instant,
    /// Time spent on elicitations that have ended. Overlapping ones count once.
    elicitation_time: Duration,
}

impl InFlightCall {
    pub(crate) fn new(context: McpCallContext) -> Arc<Self> {
        let now = Instant::now();
        let clock = CallClock {
            started_at: now,
            last_activity: now,
            progress: f64::NEG_INFINITY,
            open_elicitations: 0,
            elicitation_started_at: now,
            elicitation_time: Duration::ZERO,
        };
        Arc::new(Self {
            progress: context.progress,
            elicitation_handler: context.elicitation_handler,
            limits: context.limits,
            clock: Mutex::new(clock),
            clock_resumed: Notify::new(),
            ended: CancellationToken::new(),
        })
    }

    /// Whether the call has a user who can answer elicitations.
    pub(crate) fn can_elicit(&self) -> bool {
        self.elicitation_handler.is_some()
    }

    /// Records that the server is alive, and passes the progress on if it has increased.
    pub(crate) fn report_progress(&self, params: ProgressNotificationParam) {
        {
            let mut clock = self.clock();
            clock.last_activity = Instant::now();
            if params.progress <= clock.progress || params.progress.is_nan() {
                return;
            }
            clock.progress = params.progress;
        }
        (self.progress)(CallProgress { progress: params.progress, total: params.total, message: params.message });
    }

    /// Records that the server is alive.
    pub(crate) fn record_activity(&self) {
        self.clock().last_activity = Instant::now();
    }

    /// Puts a request to the user. The call's clock stands still until the user has answered.
    pub(crate) async fn elicit(&self, request: ElicitationRequest) -> ElicitationAnswer {
        let Some(handler) = &self.elicitation_handler else { return ElicitationAnswer::Decline };
        let Some(_paused) = PausedClock::try_pause(self) else { return ElicitationAnswer::Decline };
        tokio::select! {
            biased;
            () = self.ended.cancelled() => ElicitationAnswer::Cancel,
            answer = handler.handle_elicitation(request) => answer,
        }
    }

    /// Resolves when the call exceeds one of its limits.
    pub(crate) async fn wait_for_deadline(&self) -> DeadlineExceeded {
        loop {
            match self.next_deadline() {
                Some((deadline, exceeded)) if deadline <= Instant::now() => return exceeded,
                Some((deadline, _)) => tokio::select! {
                    () = sleep_until(deadline) => {}
                    () = self.clock_resumed.notified() => {}
                },
                None => self.clock_resumed.notified().await,
            }
        }
    }

    /// Returns the earlier of the two deadlines; `None` while an elicitation is open.
    fn next_deadline(&self) -> Option<(Instant, DeadlineExceeded)> {
        let clock = self.clock();
        if clock.open_elicitations > 0 {
            return None;
        }
        let total = clock.started_at + clock.elicitation_time + self.limits.total;
        let idle = clock.last_activity + self.limits.idle;
        Some(if idle < total {
            (idle, DeadlineExceeded::Idle(self.limits.idle))
        } else {
            (total, DeadlineExceeded::Total(self.limits.total))
        })
    }

    /// Returns a guard that ends the call when it is dropped.
    pub(crate) fn end_on_drop(&self) -> DropGuard {
        self.ended.clone().drop_guard()
    }

    fn clock(&self) -> MutexGuard<'_, CallClock> {
        self.clock.lock()
    }
}

/// Stops the clock of a call until it is dropped.
struct PausedClock<'a>(&'a InFlightCall);

impl<'a> PausedClock<'a> {
    /// Returns `None` if the call has too many open elicitations.
    fn try_pause(call: &'a InFlightCall) -> Option<Self> {
        let mut clock = call.clock();
        if clock.open_elicitations == MAX_OPEN_ELICITATIONS {
            return None;
        }
        clock.open_elicitations += 1;
        if clock.open_elicitations == 1 {
            clock.elicitation_started_at = Instant::now();
        }
        Some(Self(call))
    }
}

impl Drop for PausedClock<'_> {
    fn drop(&mut self) {
        let mut clock = self.0.clock();
        clock.open_elicitations -= 1;
        if clock.open_elicitations == 0 {
            let now = Instant::now();
            let paused_for = now - clock.elicitation_started_at;
            clock.elicitation_time += paused_for;
            clock.last_activity = now;
            self.0.clock_resumed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use rmcp::model::{NumberOrString, ProgressToken};
    use serde_json::Map;

    use super::*;
    use crate::ElicitationForm;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn start_call(elicitation_handler: Option<Arc<dyn ElicitationHandler>>) -> Arc<InFlightCall> {
        let limits = CallLimits { idle: secs(10), total: secs(25) };
        InFlightCall::new(McpCallContext { elicitation_handler, ..McpCallContext::with_limits(limits) })
    }

    fn notification(progress: f64) -> ProgressNotificationParam {
        ProgressNotificationParam::new(ProgressToken(NumberOrString::Number(1)), progress)
    }

    #[tokio::test(start_paused = true)]
    async fn silent_call_ends_at_its_idle_limit() {
        let started_at = Instant::now();
        assert_eq!(start_call(None).wait_for_deadline().await, DeadlineExceeded::Idle(secs(10)));
        assert_eq!(started_at.elapsed(), secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn progress_extends_the_idle_limit_but_not_the_total() {
        let started_at = Instant::now();
        let call = start_call(None);
        let report_progress = async {
            for step in 0..9u8 {
                tokio::time::sleep(secs(4)).await;
                call.report_progress(notification(f64::from(step)));
            }
        };
        let deadline = async { (call.wait_for_deadline().await, started_at.elapsed()) };
        let (exceeded, ()) = tokio::join!(deadline, report_progress);
        assert_eq!(exceeded, (DeadlineExceeded::Total(secs(25)), secs(25)));
    }

    struct SlowUser(Duration);

    #[async_trait]
    impl ElicitationHandler for SlowUser {
        async fn handle_elicitation(&self, _: ElicitationRequest) -> ElicitationAnswer {
            tokio::time::sleep(self.0).await;
            ElicitationAnswer::Accept(Map::new())
        }
    }

    fn request() -> ElicitationRequest {
        ElicitationRequest { message: "Sure?".to_owned(), form: ElicitationForm::Fields(Map::new()) }
    }

    #[tokio::test(start_paused = true)]
    async fn elicitation_time_does_not_count() {
        let started_at = Instant::now();
        let call = start_call(Some(Arc::new(SlowUser(secs(3600)))));
        let overlapping = async {
            tokio::time::sleep(secs(5)).await;
            tokio::join!(call.elicit(request()), call.elicit(request()))
        };
        let deadline = async { (call.wait_for_deadline().await, started_at.elapsed()) };
        let (exceeded, answers) = tokio::join!(deadline, overlapping);
        let accepted = || ElicitationAnswer::Accept(Map::new());
        assert_eq!(answers, (accepted(), accepted()));
        assert_eq!(exceeded, (DeadlineExceeded::Idle(secs(10)), secs(3600 + 5 + 10)));
    }

    #[tokio::test(start_paused = true)]
    async fn open_elicitations_of_a_call_are_bounded() {
        let call = start_call(Some(Arc::new(SlowUser(secs(1)))));
        let answers = futures_util::future::join_all((0..50).map(|_| call.elicit(request()))).await;
        let declined = answers.iter().filter(|answer| **answer == ElicitationAnswer::Decline).count();
        assert_eq!(declined, 50 - MAX_OPEN_ELICITATIONS);
    }

    #[tokio::test(start_paused = true)]
    async fn ended_call_cancels_its_elicitations() {
        let call = start_call(Some(Arc::new(SlowUser(secs(3600)))));
        let end_on_drop = call.end_on_drop();
        let (answer, ()) = tokio::join!(call.elicit(request()), async { drop(end_on_drop) });
        assert_eq!(answer, ElicitationAnswer::Cancel);
    }
}
