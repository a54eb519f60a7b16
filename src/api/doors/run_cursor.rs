//! The run cursor: follows one run of a session until it rests, which is where the answer of another protocol ends.
//!
//! It is made of a session, a run and a position in the log, and of nothing else, so that it is the same on every replica and
//! after a restart.

use std::sync::Arc;

use k8sops_core::{
    EventBody, EventCursor, GapReason, OpenRun, RunFailed, RunFinished, RunId, SessionEvent, StoreError, StreamFrame,
    Timestamp, TransientEvent,
};

use super::{
    preceding_run::{PrecedingRun, PrecedingWait},
    waiting_interactions::{InteractionId, WaitingInteractions},
};

/// Where a run rests: nothing more comes until its user does something.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum RunRest {
    /// The run ended.
    Finished(RunFinished),
    /// The run failed.
    Failed(RunFailed),
    /// The run waits for its user: all its open calls wait for an approval or an answer.
    Waiting(WaitingInteractions),
    /// The run cannot be followed any further here.
    Interrupted(RunInterruption),
}

/// Why a run cannot be followed any further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RunInterruption {
    /// The service shuts down. The run is resumed by another process.
    Stopping,
    /// The store is unavailable. The run is resumed when it is available again.
    StoreUnavailable,
    /// The store has lost events that were shown.
    EventsLost,
    /// The store has lost the message: it was accepted and is not answered.
    MessageLost,
    /// The events of the run are no longer kept.
    EventsNotKept,
    /// The session was deleted.
    SessionDeleted,
    /// The stored session is damaged.
    SessionDamaged(String),
    /// The caller's key or token is no longer valid.
    Unauthenticated,
}

impl RunInterruption {
    /// Returns the stable code. `reconnect` stands for what another attempt can follow further.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Stopping | Self::StoreUnavailable | Self::EventsLost => "reconnect",
            Self::MessageLost => "message_lost",
            Self::EventsNotKept => "events_not_kept",
            Self::SessionDeleted => "session_deleted",
            Self::SessionDamaged(_) => "session_damaged",
            Self::Unauthenticated => "unauthenticated",
        }
    }

    /// Whether another attempt can follow the run further.
    pub(super) fn is_temporary(&self) -> bool {
        self.code() == "reconnect"
    }

    /// Explains the interruption.
    pub(super) fn message(&self) -> String {
        match self {
            Self::Stopping => "the service is shutting down; the run is resumed by another process".to_owned(),
            Self::StoreUnavailable => {
                "the session store is unavailable; the run is resumed when it is available again".to_owned()
            }
            Self::EventsLost => "the session store has lost events that were shown; look at the session".to_owned(),
            Self::MessageLost => "the session store has lost the message; send it again".to_owned(),
            Self::EventsNotKept => "the events of this run are no longer kept".to_owned(),
            Self::SessionDeleted => "the session was deleted".to_owned(),
            Self::SessionDamaged(why) => format!("the session's log cannot be read further: {why}"),
            Self::Unauthenticated => "the key or token is no longer valid".to_owned(),
        }
    }
}

/// What a run cursor returns.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum RunStep {
    /// A frame of the run.
    Frame(StreamFrame),
    /// The run has not begun, and the run before it waits for its user. It comes again when that waits for something else.
    Blocked(PrecedingWait),
    /// The run rests. Nothing comes after it.
    Rest(RunRest),
}

/// Where a run rested before, and which of the things that it waited for were answered then. Made of the log alone: a cursor
/// after it returns the same on every replica, whenever it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RestPoint {
    /// The seq of the event after which the run rested.
    pub(super) seq: u64,
    /// The answered requests, a bit for each in the order of [`WaitingInteractions::ids`]. Without one, the cursor rests again at
    /// once.
    pub(super) answered: u64,
}

/// Follows one run of a session.
pub(super) struct RunCursor {
    events: EventCursor,
    run_id: RunId,
    /// Runs of messages that no owner had read yet. The cursor rests when they have ended, too.
    waiting_runs: Vec<RunId>,
    /// The store has lost a message of a waiting run.
    has_lost_message: bool,
    /// The seq after which the cursor was opened.
    start_seq: u64,
    /// Where the run rested before, until the cursor is there. Up to it the cursor returns events and never rests.
    rest_point: Option<RestPoint>,
    /// The run as of the newest event that was returned; `None` before its start.
    run: Option<OpenRun>,
    /// The run before it, if it may wait for that and has not begun.
    preceding: Option<PrecedingRun>,
    /// Answers that were accepted and are not logged yet. Until then the run does not rest.
    awaited: Vec<InteractionId>,
    rest: Option<RunRest>,
}

impl RunCursor {
    /// Follows the run that answers a message, from the seq of its receipt on. Also returns the whole text of messages that
    /// were complete before.
    pub(super) fn after_message(events: EventCursor, run_id: RunId, start_seq: u64) -> Self {
        let events = events.with_full_text();
        Self {
            events,
            run_id,
            waiting_runs: Vec::new(),
            has_lost_message: false,
            start_seq,
            rest_point: None,
            run: None,
            preceding: None,
            awaited: Vec::new(),
            rest: None,
        }
    }

    /// Also says what the run before this one waits for, as long as this one has not begun: otherwise its client would wait in
    /// silence. Not for a message that interrupts.
    pub(super) fn behind(mut self, preceding: PrecedingRun) -> Self {
        self.preceding = Some(preceding);
        self
    }

    /// Also follows runs that begin later, in the order in which they begin.
    pub(super) fn with_waiting_runs(mut self, runs: Vec<RunId>) -> Self {
        self.waiting_runs = runs;
        self
    }

    /// Follows a run from where it rested. `events` starts at the message of the run: the events up to the rest come first, and
    /// say what the run was about.
    pub(super) fn after_rest(events: EventCursor, run_id: RunId, start_seq: u64, rest_point: RestPoint) -> Self {
        Self { rest_point: Some(rest_point), ..Self::after_message(events, run_id, start_seq) }
    }

    /// Follows a run that is open at the position of the cursor, after the answers `awaited` were accepted.
    pub(super) fn in_run(events: EventCursor, run: OpenRun, start_seq: u64, mut awaited: Vec<InteractionId>) -> Self {
        awaited.retain(|id| is_pending(&run, *id));
        let run_id = run.run_id;
        let mut cursor = Self { run: Some(run), awaited, ..Self::after_message(events, run_id, start_seq) };
        cursor.rest_if_blocked(Timestamp::now());
        cursor
    }

    pub(super) fn run_id(&self) -> RunId {
        self.run_id
    }

    /// Returns the seq after which the cursor was opened.
    pub(super) fn start_seq(&self) -> u64 {
        self.start_seq
    }

    /// Whether a step is available at once.
    pub(super) fn has_ready_step(&self) -> bool {
        self.rest.is_some() || self.events.has_ready_frame()
    }

    /// Waits for the next step. Must not be called after a rest other than [`RunRest::Waiting`].
    ///
    /// Cancel safe: a dropped call loses nothing.
    ///
    /// # Errors
    /// Those of the store. The call can be repeated.
    pub(super) async fn next(&mut self) -> Result<RunStep, StoreError> {
        loop {
            if let Some(rest) = self.rest.take() {
                return Ok(RunStep::Rest(rest));
            }
            if self.preceding.is_some() {
                // Only at the end of the log it is known that this run has not begun.
                if let Some(step) = self.next_logged().await? {
                    return Ok(step);
                }
            }
            let Some(frame) = self.events.next().await? else {
                return Ok(RunStep::Rest(RunRest::Interrupted(RunInterruption::SessionDeleted)));
            };
            if let Some(step) = self.apply_frame(frame) {
                return Ok(step);
            }
        }
    }

    /// Returns the next step if it is available without waiting for a new event; `None` at the end of the log.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn next_logged(&mut self) -> Result<Option<RunStep>, StoreError> {
        loop {
            if let Some(rest) = self.rest.take() {
                return Ok(Some(RunStep::Rest(rest)));
            }
            let Some(frame) = self.events.next_logged().await? else {
                return Ok(self.preceding.as_mut().and_then(PrecedingRun::take_new_wait).map(RunStep::Blocked));
            };
            if let Some(step) = self.apply_frame(frame) {
                return Ok(Some(step));
            }
        }
    }

    /// Returns the step that a frame is, if it is one of this run.
    fn apply_frame(&mut self, frame: StreamFrame) -> Option<RunStep> {
        match &frame {
            StreamFrame::Transient(TransientEvent::Gap(gap)) => {
                return Some(RunStep::Rest(RunRest::Interrupted(match gap.reason {
                    GapReason::LogTruncated => RunInterruption::EventsLost,
                    GapReason::NotKept => RunInterruption::EventsNotKept,
                })));
            }
            // Lost messages whose ids are not known. This one is among them if its run has not begun.
            StreamFrame::Event(event) if event.body.is_message_lost() && event.run_id.is_none() => {
                if self.run.is_none() {
                    return Some(RunStep::Rest(RunRest::Interrupted(RunInterruption::MessageLost)));
                }
                self.has_lost_message = !self.waiting_runs.is_empty();
                self.waiting_runs.clear();
            }
            StreamFrame::Event(event) => {
                self.preceding = self.preceding.take().and_then(|preceding| preceding.after_event(event, self.run_id));
                self.meet_waiting_run(event);
                let is_of_run = event.run_id == Some(self.run_id);
                if is_of_run {
                    self.apply_event(event);
                }
                self.pass_rest_point(event);
                return is_of_run.then_some(RunStep::Frame(frame));
            }
            // What the model wrote before the rest is known.
            StreamFrame::Transient(_) if self.rest_point.is_some() => return None,
            frame if frame.run_id() != Some(self.run_id) => return None,
            StreamFrame::Transient(_) => {}
        }
        Some(RunStep::Frame(frame))
    }

    /// Follows a waiting run that begins while no other is in progress.
    fn meet_waiting_run(&mut self, event: &SessionEvent) {
        let Some(run) = event.run_id else { return };
        let Some(at) = self.waiting_runs.iter().position(|waiting| *waiting == run) else { return };
        if self.run.is_none() {
            self.waiting_runs[at] = std::mem::replace(&mut self.run_id, run);
        } else if event.body.is_message_lost() {
            self.waiting_runs.swap_remove(at);
            self.has_lost_message = true;
        }
    }

    /// Rests at the end of a run, unless another one waits to begin.
    fn end_run(&mut self, rest: RunRest) {
        match self.waiting_runs.pop() {
            Some(next) => {
                self.run_id = next;
                self.run = None;
            }
            None if self.has_lost_message => self.rest = Some(RunRest::Interrupted(RunInterruption::MessageLost)),
            None => self.rest = Some(rest),
        }
    }

    /// Begins to rest again once the cursor is where the run rested before.
    fn pass_rest_point(&mut self, event: &SessionEvent) {
        let Some(point) = self.rest_point.filter(|point| event.seq >= point.seq) else { return };
        self.rest_point = None;
        let Some(run) = &self.run else {
            // The cursor began after the run.
            self.rest = Some(RunRest::Interrupted(RunInterruption::EventsNotKept));
            return;
        };
        let waiting = WaitingInteractions::from_run_at(run, event.ts);
        let is_answered = |at: usize| at < u64::BITS as usize && point.answered >> at & 1 == 1;
        self.awaited = waiting.ids().enumerate().filter(|(at, _)| is_answered(*at)).map(|(_, id)| id).collect();
        self.rest_if_blocked(event.ts);
    }

    fn apply_event(&mut self, event: &Arc<SessionEvent>) {
        match (&event.body, &mut self.run) {
            (EventBody::RunStarted(started), run) => {
                *run = Some(OpenRun::from_started(self.run_id, started, event.ts));
            }
            (EventBody::RunFinished(finished), _) => self.end_run(RunRest::Finished(finished.clone())),
            (EventBody::RunFailed(failed), _) => self.end_run(RunRest::Failed(failed.clone())),
            (body, _) if body.is_message_lost() => {
                self.has_lost_message = true;
                self.end_run(RunRest::Interrupted(RunInterruption::MessageLost));
            }
            (_, Some(run)) => {
                run.follow_event(event);
                self.awaited.retain(|id| is_pending(run, *id));
                if self.rest_point.is_none() {
                    self.rest_if_blocked(event.ts);
                }
            }
            (_, None) => {}
        }
    }

    /// Rests if the run waits for its user. What has expired at `now` counts as answered; in a replay, `now` is the time of the
    /// event, so that a replay rests where the run was seen to rest.
    fn rest_if_blocked(&mut self, now: Timestamp) {
        let Some(run) = self.run.as_ref().filter(|run| self.awaited.is_empty() && run.is_blocked_on_user()) else {
            return;
        };
        let waiting = WaitingInteractions::from_run_at(run, now);
        // The owner continues without an answer if all of it has expired.
        if !waiting.is_empty() {
            self.rest = Some(RunRest::Waiting(waiting));
        }
    }
}

fn is_pending(run: &OpenRun, id: InteractionId) -> bool {
    match id {
        InteractionId::Approval(id) => run.pending_approvals().any(|asked| asked.approval_id == id),
        InteractionId::Input(id) => run.pending_inputs().any(|asked| asked.input_id == id),
    }
}
