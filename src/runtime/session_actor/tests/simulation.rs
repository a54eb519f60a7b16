//! The surroundings of an actor in memory: its store, its run, its extraction and its clients. Each step checks what must always
//! hold.

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use k8sops_core::*;

use super::{simulated_run::SimulatedRun, simulated_store::SimulatedStore};
use crate::runtime::session_actor::{
    effects::{ActorEffect, ClosedSession, CommitBatch, RunStart},
    inputs::{
        ActorInput, ActorTime, CheckpointNeed, CommitOutcome, InboxContents, IndexWrite, SessionFacts, StoreSharing,
    },
    state::{ActorOperation, OwnedSession, SessionActorState, ShutdownNotice},
    step::{first_state, step},
};

pub(super) fn internal_failure() -> RunFailed {
    let usage = TokenUsage::default();
    RunFailed { code: "internal".into(), message: "bug".into(), retryable: true, provider_request_id: None, usage }
}

pub(super) fn unavailable() -> StoreError {
    StoreError::Unavailable("away".into())
}

pub(super) fn message(on_busy: OnBusy) -> CommandBody {
    let (message_id, run_id) = (MessageId::new(), RunId::new());
    CommandBody::Message {
        message_id,
        run_id,
        content: "hi".into(),
        attachments: Vec::new(),
        on_busy,
        cause: RequestContext::default(),
    }
}

/// The operation that the actor waits for.
#[derive(Debug)]
pub(super) enum AwaitedOperation {
    Open,
    Commit(Box<CommitBatch>),
    CommitMessage(Box<CommitBatch>, Box<RunStart>),
    RecordCommit,
    RecordApprovals,
    CheckLog,
    ReadInbox,
    ReleaseLease,
    LeaveRegistry,
}

/// How an operation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OperationFate {
    Succeeds,
    Unavailable,
    /// A commit takes effect and is reported as failed. Anything else is unavailable.
    TakesEffectUnnoticed,
    Fenced,
    Held,
    Damaged,
}

/// What waits for an acknowledgement.
#[derive(Debug)]
pub(super) enum WaitingAppend {
    Start(RunId),
    /// The append of a run whose first event has this time.
    Append(RunId, Vec<EventDraft>),
}

#[expect(clippy::struct_excessive_bools, reason = "independent facts of the world around the actor")]
pub(super) struct Simulation {
    state: SessionActorState,
    pub(super) now: ActorTime,
    sharing: StoreSharing,
    pub(super) operation: Option<AwaitedOperation>,
    pub(super) store: SimulatedStore,
    /// Why the session cannot be owned any more.
    pub(super) closed: Option<ClosedSession>,
    is_leased: bool,
    /// Whether the actor was notified and has not been told.
    is_notified: bool,
    /// Whether the service shuts down; the run sees it at once.
    pub(super) is_halted: bool,
    pub(super) run: Option<SimulatedRun>,
    pub(super) is_extracting: bool,
    pub(super) waiting: VecDeque<WaitingAppend>,
    /// The message that the actor was offered and has not answered.
    pub(super) offer: Option<Arc<SessionCommand>>,
    /// Whether capacity is reserved, as far as the actor knows.
    has_capacity: bool,
}

impl Simulation {
    pub(super) fn new(sharing: StoreSharing) -> Self {
        let now = ActorTime { elapsed: Duration::ZERO, wall: "2026-01-01T00:00:00Z".parse().unwrap() };
        let (state, effects) = first_state();
        let mut simulation = Self {
            state,
            now,
            sharing,
            operation: None,
            store: SimulatedStore::new(now.wall),
            closed: None,
            is_leased: false,
            is_notified: false,
            is_halted: false,
            run: None,
            is_extracting: false,
            waiting: VecDeque::new(),
            offer: None,
            has_capacity: true,
        };
        simulation.perform(effects);
        simulation
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, SessionActorState::Ended)
    }

    /// Starts another actor of the session, as a command or the look for sessions with work does.
    pub(super) fn restart(&mut self) {
        assert!(self.has_ended() && !self.is_leased);
        let (state, effects) = first_state();
        self.state = state;
        self.has_capacity = true;
        self.perform(effects);
    }

    /// Returns whether an actor of the session has something to do, and could do it.
    pub(super) fn has_work(&self) -> bool {
        let is_ownable = self.closed.is_none() && !self.is_halted;
        is_ownable && (!self.store.inbox.is_empty() || self.store.session.summary.has_work())
    }

    pub(super) fn owned(&self) -> Option<&OwnedSession> {
        match &self.state {
            SessionActorState::Owned(session) => Some(session),
            _ => None,
        }
    }

    pub(super) fn shutdown(&self) -> ShutdownNotice {
        self.state.shutdown()
    }

    pub(super) fn input(&mut self, input: ActorInput) {
        let state = mem::replace(&mut self.state, SessionActorState::Ended);
        let (next, effects) = step(state, input, self.now);
        self.state = next;
        self.perform(effects);
        if self.has_ended() {
            self.submit_offer();
            self.end_tasks();
            self.operation = None;
            assert!(!self.is_leased || self.closed == Some(ClosedSession::Deleted), "the lease is released");
        }
        self.check_awaited();
        self.check_rest();
    }

    /// The state waits for the operation that was started, and for no other.
    fn check_awaited(&self) {
        let fits = match (&self.state, &self.operation) {
            (SessionActorState::Opening { .. }, Some(AwaitedOperation::Open))
            | (SessionActorState::Releasing { .. }, Some(AwaitedOperation::ReleaseLease))
            | (SessionActorState::Leaving { .. }, Some(AwaitedOperation::LeaveRegistry))
            | (SessionActorState::Retrying { .. } | SessionActorState::Ended, None) => true,
            (SessionActorState::Owned(session), operation) => matches!(
                (session.operation, operation),
                (None, None)
                    | (Some(ActorOperation::Commit { .. }), Some(AwaitedOperation::Commit(_)))
                    | (Some(ActorOperation::CommitMessage), Some(AwaitedOperation::CommitMessage(..)))
                    | (Some(ActorOperation::RecordCommit), Some(AwaitedOperation::RecordCommit))
                    | (Some(ActorOperation::RecordApprovals(_)), Some(AwaitedOperation::RecordApprovals))
                    | (Some(ActorOperation::CheckLog), Some(AwaitedOperation::CheckLog))
                    | (Some(ActorOperation::ReadInbox), Some(AwaitedOperation::ReadInbox))
            ),
            _ => false,
        };
        assert!(fits, "{:?} does not wait for {:?}", self.state, self.operation);
    }

    /// An actor that waits for nothing but time holds no capacity, and has a deadline or a task.
    fn check_rest(&self) {
        let Some(session) = self.owned() else { return };
        if self.operation.is_some() {
            return;
        }
        assert!(session.queue.is_empty(), "something is queued and not committed: {session:?}");
        assert!(self.run.is_some() || !self.has_capacity, "capacity is held at rest: {session:?}");
        assert!(self.run.is_some() || self.offer.is_none(), "a message waits for nothing: {session:?}");
        let has_task = self.run.is_some() || self.is_extracting;
        assert!(has_task || self.state.next_deadline(self.now).is_some(), "nothing wakes {session:?}");
        assert_eq!(session.active_run(), self.run.as_ref().map(|run| run.run_id));
    }

    fn perform(&mut self, effects: Vec<ActorEffect>) {
        for effect in effects {
            match effect {
                ActorEffect::OpenSession => {
                    assert!(!self.is_leased);
                    self.is_notified = false;
                    self.start(AwaitedOperation::Open);
                }
                ActorEffect::Commit(batch) => {
                    self.has_capacity = true;
                    self.start_owned(AwaitedOperation::Commit(Box::new(batch)));
                }
                ActorEffect::CommitMessage(message, batch, start) => {
                    self.check_not_draining();
                    assert_eq!(self.offer.as_ref(), Some(&message));
                    self.has_capacity = true;
                    self.start_owned(AwaitedOperation::CommitMessage(Box::new(batch), start));
                }
                ActorEffect::DeclineMessage => self.submit_offer(),
                ActorEffect::RecordCommit => self.start_owned(AwaitedOperation::RecordCommit),
                ActorEffect::RecordApprovals(_) => self.start_owned(AwaitedOperation::RecordApprovals),
                ActorEffect::CheckLog => self.start_owned(AwaitedOperation::CheckLog),
                ActorEffect::ReadInbox => {
                    self.check_not_draining();
                    self.start_owned(AwaitedOperation::ReadInbox);
                }
                ActorEffect::ReleaseLease(_) => {
                    assert!(self.is_leased);
                    self.submit_offer();
                    self.end_tasks();
                    // A commit in progress is dropped.
                    self.operation = Some(AwaitedOperation::ReleaseLease);
                }
                ActorEffect::LeaveRegistry => {
                    assert!(!self.is_leased);
                    self.start(AwaitedOperation::LeaveRegistry);
                }
                ActorEffect::StartRun(start) => {
                    self.check_not_draining();
                    assert!(self.is_leased && self.run.is_none(), "two runs at once");
                    self.waiting.push_back(WaitingAppend::Start(start.run_id));
                    let run = SimulatedRun {
                        run_id: start.run_id,
                        is_started: false,
                        is_cancelled: false,
                        waiting: 0,
                        is_finished: false,
                    };
                    self.run = Some(run);
                }
                ActorEffect::CancelRun => self.run.as_mut().unwrap().is_cancelled = true,
                ActorEffect::StartExtraction => {
                    self.check_not_draining();
                    assert!(self.is_leased && !self.is_extracting, "two extractions at once");
                    self.is_extracting = true;
                }
                ActorEffect::AcknowledgeAppends(count) => self.acknowledge(count),
                ActorEffect::ReleaseCapacity => {
                    assert!(self.run.is_none(), "a run needs its capacity");
                    self.has_capacity = false;
                }
                ActorEffect::ReportFailure(_) | ActorEffect::CloseFeed(_) => {}
            }
        }
    }

    /// Offers a message to an owner.
    pub(super) fn offer(&mut self, body: CommandBody) {
        if self.owned().is_some() && self.offer.is_none() {
            let message = Arc::new(SimulatedStore::create_command(body));
            self.offer = Some(message.clone());
            self.input(ActorInput::MessageOffered(message));
        }
    }

    /// The sender of a message that was not accepted, as far as it knows, submits it.
    fn submit_offer(&mut self) {
        if let Some(message) = self.offer.take()
            && self.closed.is_none()
        {
            self.store.submit_command(Arc::unwrap_or_clone(message));
        }
    }

    fn start(&mut self, operation: AwaitedOperation) {
        assert!(self.operation.is_none(), "{operation:?} during {:?}", self.operation);
        self.operation = Some(operation);
    }

    fn start_owned(&mut self, operation: AwaitedOperation) {
        assert!(self.is_leased, "{operation:?} without a lease");
        self.start(operation);
    }

    fn check_not_draining(&self) {
        let draining = self.owned().is_some_and(OwnedSession::is_draining);
        assert!(!draining, "something is started during a drain");
    }

    fn end_tasks(&mut self) {
        (self.run, self.is_extracting) = (None, false);
        self.waiting.clear();
    }

    /// The appends that are acknowledged are in the log.
    fn acknowledge(&mut self, count: usize) {
        for _ in 0..count {
            match self.waiting.pop_front().expect("as many appends as acknowledgements") {
                WaitingAppend::Start(run_id) => {
                    assert_eq!(self.store.session.summary.open_run, Some(run_id), "the run is open in the log");
                    self.run.iter_mut().for_each(|run| run.is_started = true);
                }
                WaitingAppend::Append(run_id, drafts) => {
                    let is_logged = |draft: &EventDraft| self.store.log.iter().any(|event| event.body == draft.body);
                    assert!(drafts.iter().all(is_logged), "{drafts:?} is durable");
                    if let Some(run) = self.run.as_mut().filter(|run| run.run_id == run_id) {
                        run.waiting -= 1;
                    }
                }
            }
        }
    }

    /// Answers the operation in progress.
    pub(super) fn answer(&mut self, fate: OperationFate) {
        let Some(operation) = self.operation.take() else { return };
        let session = self.store.session.summary.session_id;
        let error = match fate {
            OperationFate::Succeeds => None,
            _ if self.closed == Some(ClosedSession::Deleted) => Some(StoreError::NotFound(session)),
            OperationFate::Fenced => Some(StoreError::Forked { session, seq: 1 }),
            OperationFate::Held if matches!(operation, AwaitedOperation::Open) => Some(StoreError::Held(session)),
            OperationFate::Damaged if matches!(operation, AwaitedOperation::Open) => {
                self.closed = Some(ClosedSession::Damaged);
                Some(StoreError::Corrupt("garbage".into()))
            }
            _ => Some(unavailable()),
        };
        let input = match (operation, error) {
            (AwaitedOperation::Open, None) => {
                self.is_leased = true;
                ActorInput::Opened(Box::new(self.store.open(self.sharing)))
            }
            (AwaitedOperation::Open, Some(error)) => ActorInput::OpenFailed(error),
            (AwaitedOperation::Commit(batch), None) => {
                let has_run_end = self.store.commit(*batch, self.now.wall);
                ActorInput::Committed(CommitOutcome {
                    facts: SessionFacts::from_state(&self.store.session),
                    has_run_end,
                    has_records: self.store.log.len().is_multiple_of(2),
                    checkpoint: if has_run_end { CheckpointNeed::Due } else { CheckpointNeed::None },
                })
            }
            (AwaitedOperation::CommitMessage(..), None) if !self.store.inbox.is_empty() => {
                self.submit_offer();
                ActorInput::MessageDeclined
            }
            (AwaitedOperation::CommitMessage(batch, start), None) => {
                let message = self.offer.take().expect("a message is committed once");
                self.store.commit_message(*batch, &message, self.now.wall);
                ActorInput::MessageCommitted(
                    CommitOutcome {
                        facts: SessionFacts::from_state(&self.store.session),
                        has_run_end: false,
                        has_records: self.store.log.len().is_multiple_of(2),
                        checkpoint: CheckpointNeed::None,
                    },
                    start,
                )
            }
            (AwaitedOperation::CommitMessage(batch, _), Some(error)) => {
                // Unnoticed by the sender as well, who submits the message again.
                if fate == OperationFate::TakesEffectUnnoticed
                    && self.store.inbox.is_empty()
                    && let Some(message) = self.offer.clone()
                {
                    self.store.commit_message(*batch, &message, self.now.wall);
                }
                ActorInput::OperationFailed(error)
            }
            (AwaitedOperation::Commit(batch), Some(error)) => {
                if fate == OperationFate::TakesEffectUnnoticed {
                    self.store.commit(*batch, self.now.wall);
                }
                ActorInput::OperationFailed(error)
            }
            (AwaitedOperation::CheckLog | AwaitedOperation::ReadInbox, Some(error)) => {
                ActorInput::OperationFailed(error)
            }
            (AwaitedOperation::CheckLog, None) => ActorInput::LogChecked(LostMessages::default()),
            (AwaitedOperation::ReadInbox, None) => {
                ActorInput::InboxRead(InboxContents { waiting: self.store.inbox.clone(), logged: Vec::new() })
            }
            (AwaitedOperation::RecordCommit, _) => ActorInput::CommitRecorded,
            (AwaitedOperation::RecordApprovals, None) => ActorInput::ApprovalsRecorded(IndexWrite::Done),
            (AwaitedOperation::RecordApprovals, Some(_)) => ActorInput::ApprovalsRecorded(IndexWrite::Failed),
            (AwaitedOperation::ReleaseLease, error) => {
                self.is_leased = false;
                let is_left = !self.store.inbox.is_empty() || self.store.session.summary.has_work();
                let left = error.is_none() && is_left;
                ActorInput::LeaseReleased(if left { RemainingWork::Unfinished } else { RemainingWork::None })
            }
            (AwaitedOperation::LeaveRegistry, _) if self.is_notified => ActorInput::RegistryKept,
            (AwaitedOperation::LeaveRegistry, _) => ActorInput::RegistryLeft,
        };
        let was_read = matches!(input, ActorInput::InboxRead(_));
        self.input(input);
        if was_read {
            self.check_cancelled();
        }
    }

    /// A cancel that the actor has read has cancelled its run, whether or not that was started before.
    fn check_cancelled(&self) {
        let Some(run) = self.run.as_ref().filter(|_| self.owned().is_some_and(|session| !session.is_draining())) else {
            return;
        };
        let cancels = |entry: &InboxEntry| matches!(entry.command.body, CommandBody::Cancel { run_id } if run_id == Some(run.run_id));
        assert!(run.is_cancelled || !self.store.inbox.iter().any(cancels), "the run is cancelled");
    }

    pub(super) fn notify(&mut self) {
        if self.owned().is_some() {
            self.input(ActorInput::InboxNotified);
        } else if self.has_ended() && self.has_work() {
            self.restart();
        } else {
            self.is_notified = true;
        }
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.now.elapsed += by;
        self.now.wall = self.now.wall.saturating_add(by);
        if self.state.next_deadline(self.now).is_some_and(|at| at <= self.now.elapsed) {
            self.input(ActorInput::DeadlineReached);
        }
    }

    /// Time passes until the next deadline.
    pub(super) fn advance_to_deadline(&mut self) {
        if let Some(at) = self.state.next_deadline(self.now) {
            self.advance(at.saturating_sub(self.now.elapsed));
        }
    }
}
