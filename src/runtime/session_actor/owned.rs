//! The transitions of a session under a lease.

use std::mem;

use k8sops_core::{EventBody, EventDraft, LostMessages, RunFailed, RunId, SessionWarning, StoreError, TokenUsage};

use super::{
    effects::{ActorEffect, ClosedSession, CommitBatch, RunStart, StateRetention},
    inputs::{ActorInput, ActorTime, CheckpointNeed, CommitOutcome, IndexWrite, RunEnding, TaskReport},
    state::{
        ActorOperation, AfterRelease, ApprovalRecord, ExtractionTask, InboxNews, LOOK_INTERVAL, OwnedSession,
        RetryBackoff, RunStage, SessionActivity, SessionActorState, ShutdownNotice,
    },
};

/// Whether an operation was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OperationStart {
    None,
    Started,
}

/// Returns what an actor does after a failure, once it has no lease.
pub(super) fn after_failure(error: &StoreError, backoff: RetryBackoff, shutdown: ShutdownNotice) -> AfterRelease {
    match (error, shutdown) {
        (StoreError::NotFound(_), _) => AfterRelease::Close(ClosedSession::Deleted),
        // A retry would fail again. The next command starts a new actor, and so does every look for sessions with work.
        (StoreError::Corrupt(_), _) => AfterRelease::Close(ClosedSession::Damaged),
        (_, ShutdownNotice::Received) => AfterRelease::End,
        // Another process owns it and is notified. If that owner dies, lease expiry reveals it.
        (StoreError::Held(_), ShutdownNotice::None) => AfterRelease::Leave { backoff },
        (_, ShutdownNotice::None) => AfterRelease::Retry { backoff },
    }
}

fn release_lease(next: AfterRelease, state: StateRetention, effects: &mut Vec<ActorEffect>) -> SessionActorState {
    effects.push(ActorEffect::ReleaseLease(state));
    SessionActorState::Releasing { next }
}

/// The failure of a run whose task has ended although the run is open.
fn run_not_closed() -> RunFailed {
    RunFailed {
        code: "internal".into(),
        message: "the run ended early because of a bug in k8sops; see the log of the service".into(),
        retryable: true,
        provider_request_id: None,
        usage: TokenUsage::default(),
    }
}

impl OwnedSession {
    /// Returns the state after an input.
    pub(super) fn step(
        mut self: Box<Self>,
        input: ActorInput,
        now: ActorTime,
        effects: &mut Vec<ActorEffect>,
    ) -> SessionActorState {
        match input {
            ActorInput::OperationFailed(error) | ActorInput::LeaseLost(error) => {
                return self.release_after_failure(error, effects);
            }
            ActorInput::Committed(outcome) => self.apply_commit(outcome, effects),
            ActorInput::MessageCommitted(outcome, start) => {
                self.apply_commit(outcome, effects);
                // In a drain, the next process resumes the run.
                if !self.is_draining() {
                    self.begin_run(*start, effects);
                    effects.push(ActorEffect::AcknowledgeAppends(1));
                }
            }
            ActorInput::MessageDeclined => {
                self.operation = None;
                self.inbox = InboxNews::Unread;
            }
            ActorInput::CommitRecorded => self.operation = None,
            ActorInput::ApprovalsRecorded(write) => self.apply_approval_record(write),
            ActorInput::LogChecked(lost) => {
                self.operation = None;
                self.announce_lost_messages(lost, now);
                // The store may have lost the record as well.
                if !self.facts.approvals.is_empty() || self.approvals == ApprovalRecord::Failed {
                    self.approvals = ApprovalRecord::Due;
                }
            }
            ActorInput::InboxRead(inbox) => {
                self.operation = None;
                // The commands are left to the next owner.
                if !self.is_draining() {
                    self.queue.consumed.extend(inbox.logged);
                    self.process_inbox(&inbox.waiting, now, effects);
                }
            }
            ActorInput::Reported(reports) => {
                let is_cut = reports.iter().any(|report| matches!(report, TaskReport::RunEnded(RunEnding::LogClosed)));
                // A renewal that was under way has saved the lease. Which calls the run has sent is known as after a lost one.
                if is_cut && self.has_active_run_open() {
                    let why = "the lease had lapsed when a run was about to send a call";
                    return self.release_after_failure(StoreError::Unavailable(why.into()), effects);
                }
                for report in reports {
                    self.apply_report(report, now);
                }
            }
            ActorInput::InboxNotified => self.inbox = InboxNews::Unread,
            ActorInput::MessageOffered(message) => self.offered = Some(message),
            ActorInput::ShutdownRequested => self.drain(),
            // The answers to what an actor without this lease wanted.
            ActorInput::Opened(_)
            | ActorInput::OpenFailed(_)
            | ActorInput::LeaseReleased(_)
            | ActorInput::RegistryLeft
            | ActorInput::RegistryKept
            | ActorInput::SessionDeleted
            | ActorInput::DeadlineReached => {}
        }
        self.settle(now, effects)
    }

    /// Does what can be done now: starts the next operation if none is in progress, and rests if nothing is left.
    pub(super) fn settle(mut self: Box<Self>, now: ActorTime, effects: &mut Vec<ActorEffect>) -> SessionActorState {
        // A run that is open keeps a message waiting, and so does a drain. The task of a run that has ended is about to end.
        if self.offered.is_some() && (self.is_draining() || self.facts.open_run.is_some()) {
            self.offered = None;
            effects.push(ActorEffect::DeclineMessage);
        }
        if self.operation.is_some() {
            return SessionActorState::Owned(self);
        }
        self.expire_interactions(now);
        if self.start_operation(now, effects) == OperationStart::Started {
            return SessionActorState::Owned(self);
        }
        let is_due = self.idle_until().is_some_and(|until| until <= now.elapsed);
        match &self.activity {
            SessionActivity::Draining { run: None } => {
                return release_lease(AfterRelease::End, StateRetention::Drop, effects);
            }
            SessionActivity::Idle { .. } if is_due && self.facts.to_learn => {
                effects.push(ActorEffect::StartExtraction);
                self.activity = SessionActivity::Extracting;
            }
            SessionActivity::Idle { .. } if is_due => {
                // The session was owned without a failure: an earlier one is over.
                let backoff = RetryBackoff::default();
                return release_lease(AfterRelease::Leave { backoff }, StateRetention::Keep, effects);
            }
            SessionActivity::Working { extraction } => {
                effects.push(ActorEffect::ReleaseCapacity);
                self.activity = match extraction {
                    ExtractionTask::None => SessionActivity::Idle { since: now.elapsed },
                    ExtractionTask::Started => SessionActivity::Extracting,
                };
            }
            SessionActivity::Idle { .. }
            | SessionActivity::Extracting
            | SessionActivity::Running { .. }
            | SessionActivity::Draining { run: Some(_) } => {}
        }
        SessionActorState::Owned(self)
    }

    fn start_operation(&mut self, now: ActorTime, effects: &mut Vec<ActorEffect>) -> OperationStart {
        if self.queue.is_empty() {
            self.close_failed_run();
        }
        let until = self.pending_until();
        let must_record = match self.approvals {
            ApprovalRecord::Recorded(recorded) => recorded != until,
            ApprovalRecord::Due => true,
            ApprovalRecord::Failed => false,
        };
        if must_record {
            effects.push(ActorEffect::RecordApprovals(until));
            return self.set_operation(ActorOperation::RecordApprovals(until));
        }
        // What was taken from the inbox leaves it before it is read again.
        if self.queue.consumed.is_empty() {
            if self.next_look.is_some_and(|at| at <= now.elapsed) {
                self.next_look = Some(now.elapsed + LOOK_INTERVAL);
                self.inbox = InboxNews::Unread;
                effects.push(ActorEffect::CheckLog);
                return self.set_operation(ActorOperation::CheckLog);
            }
            if self.inbox == InboxNews::Unread && !self.is_draining() {
                self.inbox = InboxNews::None;
                effects.push(ActorEffect::ReadInbox);
                return self.set_operation(ActorOperation::ReadInbox);
            }
        }
        if self.queue.is_empty() {
            return self.commit_offered_message(now, effects);
        }
        self.stop_resting();
        let batch = mem::take(&mut self.queue);
        let appends = batch.appends;
        effects.push(ActorEffect::Commit(batch));
        self.set_operation(ActorOperation::Commit { appends })
    }

    /// Starts the commit of the message that is offered, if no run is in progress.
    fn commit_offered_message(&mut self, now: ActorTime, effects: &mut Vec<ActorEffect>) -> OperationStart {
        if matches!(self.activity, SessionActivity::Running { .. }) {
            return OperationStart::None;
        }
        let Some(message) = self.offered.take() else { return OperationStart::None };
        let Some((drafts, start)) = self.message_start(&message, &self.facts.settings, self.facts.is_titled, now)
        else {
            effects.push(ActorEffect::DeclineMessage);
            return OperationStart::None;
        };
        self.stop_resting();
        let batch = CommitBatch { drafts, ..CommitBatch::default() };
        effects.push(ActorEffect::CommitMessage(message, batch, Box::new(start)));
        self.set_operation(ActorOperation::CommitMessage)
    }

    fn stop_resting(&mut self) {
        if matches!(self.activity, SessionActivity::Idle { .. } | SessionActivity::Extracting) {
            self.activity = SessionActivity::Working { extraction: self.activity.extraction() };
        }
    }

    fn set_operation(&mut self, operation: ActorOperation) -> OperationStart {
        self.operation = Some(operation);
        OperationStart::Started
    }

    fn apply_commit(&mut self, outcome: CommitOutcome, effects: &mut Vec<ActorEffect>) {
        if let Some(ActorOperation::Commit { appends: appends @ 1.. }) = self.operation.take() {
            effects.push(ActorEffect::AcknowledgeAppends(appends));
        }
        self.facts = outcome.facts;
        self.queue.checkpoint |= outcome.checkpoint == CheckpointNeed::Due;
        if self.approvals == ApprovalRecord::Failed {
            self.approvals = ApprovalRecord::Due;
        }
        // Messages may wait for the end of a run. They wait for the end of its task as well, which comes after this.
        if outcome.has_run_end && !matches!(self.activity, SessionActivity::Running { .. }) {
            self.inbox = InboxNews::Unread;
        }
        if outcome.has_records {
            effects.push(ActorEffect::RecordCommit);
            self.operation = Some(ActorOperation::RecordCommit);
        }
    }

    fn apply_approval_record(&mut self, write: IndexWrite) {
        if let Some(ActorOperation::RecordApprovals(until)) = self.operation.take() {
            self.approvals = match write {
                IndexWrite::Done => ApprovalRecord::Recorded(until),
                IndexWrite::Failed => ApprovalRecord::Failed,
            };
        }
    }

    fn apply_report(&mut self, report: TaskReport, now: ActorTime) {
        match report {
            TaskReport::Appended(drafts) => {
                self.queue.drafts.extend(drafts);
                self.queue.appends += 1;
            }
            TaskReport::RunEnded(ending) => self.end_run(ending),
            TaskReport::MemoriesExtracted(saved) => {
                self.queue_event(None, EventBody::MemorySaved(saved), now);
                match &mut self.activity {
                    SessionActivity::Working { extraction } | SessionActivity::Running { extraction, .. } => {
                        *extraction = ExtractionTask::None;
                    }
                    SessionActivity::Extracting => {
                        self.activity = SessionActivity::Working { extraction: ExtractionTask::None };
                    }
                    SessionActivity::Idle { .. } | SessionActivity::Draining { .. } => {}
                }
            }
        }
    }

    /// Applies the end of a run's task.
    fn end_run(&mut self, ending: RunEnding) {
        let run = match ending {
            RunEnding::Failed(failure) => Some(RunStage::Failing(failure)),
            RunEnding::Closed if self.has_active_run_open() => Some(RunStage::Failing(run_not_closed())),
            RunEnding::Closed | RunEnding::LogClosed => {
                // The inbox may hold the next message, and a cancel of this run.
                self.inbox = InboxNews::Unread;
                None
            }
            // The shutdown may have reached the run first.
            RunEnding::Halted => return self.activity = SessionActivity::Draining { run: None },
        };
        let extraction = self.activity.extraction();
        self.activity = match (&self.activity, run) {
            (SessionActivity::Draining { .. }, run) => SessionActivity::Draining { run },
            (_, Some(run)) => SessionActivity::Running { run, extraction },
            (_, None) => SessionActivity::Working { extraction },
        };
    }

    /// Returns whether the run whose task was started is open in the log.
    fn has_active_run_open(&self) -> bool {
        self.active_run().is_some() && self.active_run() == self.facts.open_run
    }

    /// Returns the run whose task was started and has not ended.
    pub(super) fn active_run(&self) -> Option<RunId> {
        match &self.activity {
            SessionActivity::Running { run: RunStage::Active(run), .. }
            | SessionActivity::Draining { run: Some(RunStage::Active(run)) } => Some(*run),
            _ => None,
        }
    }

    /// Queues the end of a run whose task has failed. Everything that the task appended must be in the log.
    fn close_failed_run(&mut self) {
        let extraction = self.activity.extraction();
        let next = match &self.activity {
            SessionActivity::Running { run: RunStage::Failing(_), .. } => SessionActivity::Working { extraction },
            SessionActivity::Draining { run: Some(RunStage::Failing(_)) } => SessionActivity::Draining { run: None },
            _ => return,
        };
        let (SessionActivity::Running { run: RunStage::Failing(failure), .. }
        | SessionActivity::Draining { run: Some(RunStage::Failing(failure)) }) = mem::replace(&mut self.activity, next)
        else {
            return;
        };
        match self.facts.open_run {
            Some(_) => self.queue.failure = Some(failure),
            // The task failed after the end of its run.
            None => self.inbox = InboxNews::Unread,
        }
    }

    /// Ends what is in progress, and starts nothing more.
    fn drain(&mut self) {
        let activity = mem::replace(&mut self.activity, SessionActivity::Draining { run: None });
        if let SessionActivity::Running { run, .. } | SessionActivity::Draining { run: Some(run) } = activity {
            self.activity = SessionActivity::Draining { run: Some(run) };
        }
    }

    fn release_after_failure(&self, error: StoreError, effects: &mut Vec<ActorEffect>) -> SessionActorState {
        let shutdown = if self.is_draining() { ShutdownNotice::Received } else { ShutdownNotice::None };
        let next = after_failure(&error, self.backoff, shutdown);
        effects.push(ActorEffect::ReportFailure(error));
        release_lease(next, StateRetention::Drop, effects)
    }

    /// Queues an event of the actor.
    pub(super) fn queue_event(&mut self, run_id: Option<RunId>, body: EventBody, now: ActorTime) {
        self.queue.drafts.push(EventDraft { ts: now.wall, run_id, body });
    }

    /// Starts the task of a run, whose first event is queued: the task waits for the next commit.
    pub(super) fn start_run(&mut self, start: RunStart, effects: &mut Vec<ActorEffect>) {
        self.queue.appends += 1;
        self.begin_run(start, effects);
    }

    fn begin_run(&mut self, start: RunStart, effects: &mut Vec<ActorEffect>) {
        let extraction = self.activity.extraction();
        self.activity = SessionActivity::Running { run: RunStage::Active(start.run_id), extraction };
        effects.push(ActorEffect::StartRun(start));
    }

    /// Says in the log which accepted messages the store has lost.
    pub(super) fn announce_lost_messages(&mut self, lost: LostMessages, now: ActorTime) {
        let message_lost = |run_id, count| EventDraft {
            ts: now.wall,
            run_id,
            body: EventBody::Warning(SessionWarning::message_lost(count)),
        };
        let unnamed = lost.count.saturating_sub(lost.runs.len() as u64);
        self.queue.drafts.extend(lost.runs.into_iter().map(|run_id| message_lost(Some(run_id), 1)));
        self.queue.drafts.extend((unnamed > 0).then(|| message_lost(None, unnamed)));
    }
}
