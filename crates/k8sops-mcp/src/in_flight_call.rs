//! A call in flight, as its connection sees it: who takes its progress and its questions, and how long it may still take.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

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

/// Questions of one call that may be open at once; more are declined. A user is no queue.
const MAX_QUESTIONS: usize = 32;

/// See the module. It lives as long as the call, however often that is sent again because its server asked for it.
pub(crate) struct Flight {
    progress: ProgressCallback,
    elicitation_handler: Option<Arc<dyn ElicitationHandler>>,
    limits: CallLimits,
    /// A `std` lock: held for a look only, and never across an await.
    clock: Mutex<Clock>,
    /// Tells who waits for the end of the time that it goes on again.
    resumed: Notify,
    /// Cancelled when nobody waits for the call any more: its questions are withdrawn then.
    over: CancellationToken,
}

/// How much of its time a call has used.
struct Clock {
    started: Instant,
    last_sign: Instant,
    /// The highest progress passed on.
    progress: f64,
    /// Questions that a user thinks about.
    questions: usize,
    /// Since when the first of them is asked.
    asked: Instant,
    /// The time that questions took altogether.
    thinking: Duration,
}

impl Flight {
    pub(crate) fn new(context: McpCallContext) -> Arc<Self> {
        let now = Instant::now();
        let clock = Clock {
            started: now,
            last_sign: now,
            progress: f64::NEG_INFINITY,
            questions: 0,
            asked: now,
            thinking: Duration::ZERO,
        };
        Arc::new(Self {
            progress: context.progress,
            elicitation_handler: context.elicitation_handler,
            limits: context.limits,
            clock: Mutex::new(clock),
            resumed: Notify::new(),
            over: CancellationToken::new(),
        })
    }

    /// Whether somebody answers its questions.
    pub(crate) fn has_asker(&self) -> bool {
        self.elicitation_handler.is_some()
    }

    /// Takes a notification: it is a sign of life, and news if it is further than the last.
    pub(crate) fn note_progress(&self, params: ProgressNotificationParam) {
        {
            let mut clock = self.clock();
            clock.last_sign = Instant::now();
            if params.progress <= clock.progress || params.progress.is_nan() {
                return;
            }
            clock.progress = params.progress;
        }
        (self.progress)(CallProgress { progress: params.progress, total: params.total, message: params.message });
    }

    /// Notes that the server has said something else.
    pub(crate) fn note_life(&self) {
        self.clock().last_sign = Instant::now();
    }

    /// Asks the user. While they think, the time of the call stands still.
    pub(crate) async fn elicit(&self, question: ElicitationRequest) -> ElicitationAnswer {
        let Some(elicitation_handler) = &self.elicitation_handler else { return ElicitationAnswer::Decline };
        let Some(_thinking) = Thinking::begin(self) else { return ElicitationAnswer::Decline };
        tokio::select! {
            biased;
            () = self.over.cancelled() => ElicitationAnswer::Cancel,
            answer = elicitation_handler.handle_elicitation(question) => answer,
        }
    }

    /// Resolves when the call has taken too long.
    pub(crate) async fn overrun(&self) -> DeadlineExceeded {
        loop {
            let next = {
                let clock = self.clock();
                (clock.questions == 0).then(|| {
                    let total = clock.started + clock.thinking + self.limits.total;
                    let idle = clock.last_sign + self.limits.idle;
                    if idle < total {
                        (idle, DeadlineExceeded::Idle(self.limits.idle))
                    } else {
                        (total, DeadlineExceeded::Total(self.limits.total))
                    }
                })
            };
            match next {
                Some((end, overrun)) if end <= Instant::now() => return overrun,
                Some((end, _)) => tokio::select! {
                    () = sleep_until(end) => {}
                    () = self.resumed.notified() => {}
                },
                None => self.resumed.notified().await,
            }
        }
    }

    /// The call is over when the guard is dropped.
    pub(crate) fn over_when_dropped(&self) -> DropGuard {
        self.over.clone().drop_guard()
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stops the clock of a call until it is dropped.
struct Thinking<'a>(&'a Flight);

impl<'a> Thinking<'a> {
    fn begin(flight: &'a Flight) -> Option<Self> {
        let mut clock = flight.clock();
        if clock.questions == MAX_QUESTIONS {
            return None;
        }
        clock.questions += 1;
        if clock.questions == 1 {
            clock.asked = Instant::now();
        }
        Some(Self(flight))
    }
}

impl Drop for Thinking<'_> {
    fn drop(&mut self) {
        let mut clock = self.0.clock();
        clock.questions -= 1;
        if clock.questions == 0 {
            let now = Instant::now();
            let thought = now - clock.asked;
            clock.thinking += thought;
            clock.last_sign = now;
            self.0.resumed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use serde_json::Map;

    use super::*;
    use crate::ElicitationForm;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn flight(elicitation_handler: Option<Arc<dyn ElicitationHandler>>) -> Arc<Flight> {
        Flight::new(McpCallContext {
            elicitation_handler,
            ..McpCallContext::with_limits(CallLimits { idle: secs(10), total: secs(25) })
        })
    }

    fn step(progress: f64) -> ProgressNotificationParam {
        ProgressNotificationParam::new(rmcp::model::ProgressToken(rmcp::model::NumberOrString::Number(1)), progress)
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_a_sign_of_life_ends_before_its_whole_time() {
        let start = Instant::now();
        assert_eq!(flight(None).overrun().await, DeadlineExceeded::Idle(secs(10)));
        assert_eq!(start.elapsed(), secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn progress_puts_the_idle_limit_off_and_not_the_whole() {
        let (start, flight) = (Instant::now(), flight(None));
        let steps = async {
            for step_no in 0..9u8 {
                tokio::time::sleep(secs(4)).await;
                flight.note_progress(step(f64::from(step_no)));
            }
        };
        let (overrun, ()) = tokio::join!(async { (flight.overrun().await, start.elapsed()) }, steps);
        assert_eq!(overrun, (DeadlineExceeded::Total(secs(25)), secs(25)));
    }

    struct Slow(Duration);

    #[async_trait]
    impl ElicitationHandler for Slow {
        async fn handle_elicitation(&self, _: ElicitationRequest) -> ElicitationAnswer {
            tokio::time::sleep(self.0).await;
            ElicitationAnswer::Accept(Map::new())
        }
    }

    fn question() -> ElicitationRequest {
        ElicitationRequest { message: "Sure?".to_owned(), form: ElicitationForm::Fields(Map::new()) }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_that_a_user_thinks_does_not_count() {
        let (start, flight) = (Instant::now(), flight(Some(Arc::new(Slow(secs(3600))))));
        let asking = async {
            tokio::time::sleep(secs(5)).await;
            // Two that overlap are not counted twice.
            tokio::join!(flight.elicit(question()), flight.elicit(question()))
        };
        let (overrun, answers) = tokio::join!(async { (flight.overrun().await, start.elapsed()) }, asking);
        assert_eq!(answers, (ElicitationAnswer::Accept(Map::new()), ElicitationAnswer::Accept(Map::new())));
        assert_eq!(overrun, (DeadlineExceeded::Idle(secs(10)), secs(3600 + 5 + 10)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_is_not_asked_more_at_once_than_a_person_reads() {
        let flight = flight(Some(Arc::new(Slow(secs(1)))));
        let answers = futures_util::future::join_all((0..50).map(|_| flight.elicit(question()))).await;
        assert_eq!(answers.iter().filter(|answer| **answer == ElicitationAnswer::Decline).count(), 50 - MAX_QUESTIONS);
    }

    #[tokio::test(start_paused = true)]
    async fn the_questions_of_a_call_that_is_given_up_are_withdrawn() {
        let flight = flight(Some(Arc::new(Slow(secs(3600)))));
        let over = flight.over_when_dropped();
        let (answer, ()) = tokio::join!(flight.elicit(question()), async { drop(over) });
        assert_eq!(answer, ElicitationAnswer::Cancel);
    }
}
