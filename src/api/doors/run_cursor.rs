//! The run cursor: follows one run of a session until it rests, which is where the answer of another protocol ends.
//!
//! It is made of a session, a run and a position in the log, and of nothing else, so that it is the same on every replica and
//! after a restart.

use std::sync::Arc;

use k8sops_core::{
    ApprovalId, EventBody, EventCursor, GapReason, InputId, OpenRun, RunFailed, RunFinished, RunId, SessionEvent,
    StoreError, StreamFrame, TransientEvent,
};

use super::waiting_interactions::WaitingInteractions;

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
    /// The run rests. Nothing comes after it.
    Rest(RunRest),
}

/// Something that a user answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InteractionId {
    Approval(ApprovalId),
    Input(InputId),
}

/// Follows one run of a session.
pub(super) struct RunCursor {
    events: EventCursor,
    run_id: RunId,
    /// The run as of the newest event that was returned; `None` before its start.
    run: Option<OpenRun>,
    /// Answers that were accepted and are not logged yet. Until then the run does not rest.
    awaited: Vec<InteractionId>,
    rest: Option<RunRest>,
}

impl RunCursor {
    /// Follows the run that answers a message, from the seq of its receipt on. Also returns the whole text of messages that
    /// were complete before.
    pub(super) fn after_message(events: EventCursor, run_id: RunId) -> Self {
        Self { events: events.with_full_text(), run_id, run: None, awaited: Vec::new(), rest: None }
    }

    /// Follows a run that is open at the position of the cursor, after the answers `awaited` were accepted.
    pub(super) fn in_run(events: EventCursor, run: OpenRun, mut awaited: Vec<InteractionId>) -> Self {
        awaited.retain(|id| is_pending(&run, *id));
        let run_id = run.run_id;
        let mut cursor = Self { events: events.with_full_text(), run_id, run: Some(run), awaited, rest: None };
        cursor.rest_if_blocked();
        cursor
    }

    pub(super) fn run_id(&self) -> RunId {
        self.run_id
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
            let Some(frame) = self.events.next().await? else {
                return Ok(RunStep::Rest(RunRest::Interrupted(RunInterruption::SessionDeleted)));
            };
            match &frame {
                StreamFrame::Transient(TransientEvent::Gap(gap)) => {
                    return Ok(RunStep::Rest(RunRest::Interrupted(match gap.reason {
                        GapReason::LogTruncated => RunInterruption::EventsLost,
                        GapReason::NotKept => RunInterruption::EventsNotKept,
                    })));
                }
                // Lost messages whose ids are not known. This one is among them if its run has not begun.
                StreamFrame::Event(event) if event.body.is_message_lost() && event.run_id.is_none() => {
                    if self.run.is_none() {
                        return Ok(RunStep::Rest(RunRest::Interrupted(RunInterruption::MessageLost)));
                    }
                }
                frame if frame.run_id() != Some(self.run_id) => continue,
                StreamFrame::Event(event) => self.apply_event(event),
                StreamFrame::Transient(_) => {}
            }
            return Ok(RunStep::Frame(frame));
        }
    }

    fn apply_event(&mut self, event: &Arc<SessionEvent>) {
        match (&event.body, &mut self.run) {
            (EventBody::RunStarted(started), run) => {
                *run = Some(OpenRun::from_started(self.run_id, started, event.ts));
            }
            (EventBody::RunFinished(finished), _) => self.rest = Some(RunRest::Finished(finished.clone())),
            (EventBody::RunFailed(failed), _) => self.rest = Some(RunRest::Failed(failed.clone())),
            (body, _) if body.is_message_lost() => {
                self.rest = Some(RunRest::Interrupted(RunInterruption::MessageLost));
            }
            (_, Some(run)) => {
                run.follow_event(event);
                self.awaited.retain(|id| is_pending(run, *id));
                self.rest_if_blocked();
            }
            (_, None) => {}
        }
    }

    fn rest_if_blocked(&mut self) {
        let Some(run) = self.run.as_ref().filter(|run| self.awaited.is_empty() && run.is_blocked_on_user()) else {
            return;
        };
        let waiting = WaitingInteractions::from_run(run);
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
