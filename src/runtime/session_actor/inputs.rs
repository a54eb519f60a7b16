//! What a session actor learns: the answers to its operations, and what happens meanwhile.

use std::{collections::HashMap, sync::Arc, time::Duration};

use k8sops_core::{
    ApprovalId, CommandBody, EventDraft, InboxEntry, InputId, LogTruncated, LostMessages, MemorySaved, MessageId,
    RemainingWork, RequestContext, RunFailed, RunId, SessionCommand, SessionSettings, SessionState, StoreError,
    Timestamp, ToolCallId, UserId,
};
use k8sops_tools::ApprovalBy;

use super::effects::RunStart;

/// The time of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ActorTime {
    /// Time since the actor started, by the clock of timers.
    pub(super) elapsed: Duration,
    /// The wall clock, by which approvals and questions expire.
    pub(super) wall: Timestamp,
}

/// An input of the state machine.
#[derive(Debug)]
pub(super) enum ActorInput {
    /// Answers `OpenSession`: the lease is held, and the log is loaded.
    Opened(Box<OpenedSession>),
    /// Answers `OpenSession`: the lease is not held.
    OpenFailed(StoreError),
    /// Answers `Commit`: the events are in the log and in the projection, and are published.
    Committed(CommitOutcome),
    /// Answers `CommitMessage`: as after a commit, and the message is accepted.
    MessageCommitted(CommitOutcome, Box<RunStart>),
    /// Answers `CommitMessage`: nothing was written, because the inbox has commands, the message was accepted before, or its sender
    /// puts it into the inbox.
    MessageDeclined,
    /// Answers `RecordCommit`.
    CommitRecorded,
    /// Answers `RecordApprovals`.
    ApprovalsRecorded(IndexWrite),
    /// Answers `CheckLog`: the log is the one that the actor has written.
    LogChecked(LostMessages),
    /// Answers `ReadInbox`.
    InboxRead(InboxContents),
    /// Answers `Commit`, `CommitMessage`, `CheckLog` and `ReadInbox`. Nothing may be written under this lease any more.
    OperationFailed(StoreError),
    /// Answers `ReleaseLease`, also if the release failed: then the lease expires.
    LeaseReleased(RemainingWork),
    /// Answers `LeaveRegistry`: another actor may own the session in this process.
    RegistryLeft,
    /// Answers `LeaveRegistry`: the actor was notified, and is still the owner.
    RegistryKept,
    /// The tasks of the session reported something, in this order.
    Reported(Vec<TaskReport>),
    /// The inbox may have new commands.
    InboxNotified,
    /// A message is offered, and no other is: it is committed with the start of its run, or declined.
    MessageOffered(Arc<SessionCommand>),
    /// The lease was lost.
    LeaseLost(StoreError),
    /// The time of [`next_deadline`](super::state::SessionActorState::next_deadline) has come.
    DeadlineReached,
    /// The service shuts down.
    ShutdownRequested,
    /// The session was deleted.
    SessionDeleted,
}

/// The commands in a session's inbox.
#[derive(Debug, Default)]
pub(super) struct InboxContents {
    /// Those that wait, the oldest first.
    pub(super) waiting: Vec<InboxEntry>,
    /// Positions of commands whose effect is in the log already: messages, which an inbox that was restored from a backup has
    /// again, and ratings that repeat the newest one of their reply.
    pub(super) logged: Vec<u64>,
}

impl InboxContents {
    /// Separates the commands that change nothing of a projection.
    pub(super) fn new(entries: Vec<InboxEntry>, state: &SessionState) -> Self {
        let mut rated = HashMap::new();
        let is_logged = |entry: &InboxEntry| match &entry.command.body {
            CommandBody::Message { message_id, .. } => state.has_user_message(*message_id),
            CommandBody::Feedback { message_id, rating, comment } => {
                let newest = rated.entry(*message_id).or_insert_with(|| {
                    let feedback = state.find_reply(*message_id)?.feedback.as_ref()?;
                    Some((feedback.rating, feedback.comment.clone()))
                });
                let given = Some((*rating, comment.clone()));
                std::mem::replace(newest, given.clone()) == given
            }
            _ => false,
        };
        let (logged, waiting): (Vec<_>, Vec<_>) = entries.into_iter().partition(is_logged);
        Self { waiting, logged: logged.iter().map(|entry| entry.position).collect() }
    }
}

/// What a task of the session reports.
#[derive(Debug, Clone)]
pub(super) enum TaskReport {
    /// The run wants events committed, and waits for that.
    Appended(Vec<EventDraft>),
    /// The run's task has ended. Nothing of it follows.
    RunEnded(RunEnding),
    /// The memory extraction has ended.
    MemoriesExtracted(MemorySaved),
}

/// How the task of a run ended.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::runtime) enum RunEnding {
    /// The log has its end.
    Closed,
    /// It may not write to the log. Its lease had lapsed for a moment, if the owner still has it.
    LogClosed,
    /// A shutdown stopped it. The run is still open in the log.
    Halted,
    /// It cannot continue. The run is still open in the log.
    Failed(RunFailed),
}

/// Whether the index of pending approvals was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IndexWrite {
    Done,
    Failed,
}

/// A session as its new owner finds it.
#[derive(Debug, Clone)]
pub(super) struct OpenedSession {
    pub(super) facts: SessionFacts,
    pub(super) policy: ActorPolicy,
    /// What the store has lost of the log.
    pub(super) truncation: Option<LogTruncation>,
    /// The open run that an earlier owner left.
    pub(super) left_run: Option<LeftRun>,
    pub(super) lost_messages: LostMessages,
    pub(super) checkpoint: CheckpointNeed,
}

/// What an actor knows of the configuration.
#[derive(Debug, Clone, Copy)]
pub(super) struct ActorPolicy {
    pub(super) approval_by: ApprovalBy,
    /// Whether long-term memory is on.
    pub(super) has_memory: bool,
    pub(super) sharing: StoreSharing,
}

/// Which processes write to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoreSharing {
    /// Only this one.
    SingleProcess,
    /// Other replicas, whose notifications can get lost.
    Replicas,
}

/// The event that says what the store has lost.
#[derive(Debug, Clone)]
pub(super) struct LogTruncation {
    /// The seq of the event: one that no lost event had.
    pub(super) seq: u64,
    pub(super) body: LogTruncated,
}

/// An open run whose owner is gone.
#[derive(Debug, Clone)]
pub(super) struct LeftRun {
    pub(super) run_id: RunId,
    pub(super) provider: String,
    pub(super) model: String,
    pub(super) cause: RequestContext,
    /// The attempt that begins.
    pub(super) attempt: u32,
    /// The messages whose previews are void.
    pub(super) superseded: Vec<MessageId>,
}

/// Whether the next commit writes a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CheckpointNeed {
    None,
    Due,
}

/// A commit that succeeded.
#[derive(Debug)]
pub(super) struct CommitOutcome {
    /// The projection with the events.
    pub(super) facts: SessionFacts,
    /// Whether one of the events ended a run.
    pub(super) has_run_end: bool,
    /// Whether audit records or usage of the events must be recorded.
    pub(super) has_records: bool,
    pub(super) checkpoint: CheckpointNeed,
}

/// What an actor needs to know of the projection. It changes only with a commit.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SessionFacts {
    pub(super) user: UserId,
    pub(super) open_run: Option<RunId>,
    pub(super) is_titled: bool,
    pub(super) settings: SessionSettings,
    /// Whether memories were not extracted from all messages.
    pub(super) to_learn: bool,
    pub(super) approvals: Vec<PendingInteraction<ApprovalId>>,
    pub(super) questions: Vec<PendingInteraction<InputId>>,
}

/// An approval or a question that waits for its user.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PendingInteraction<Id> {
    pub(super) id: Id,
    /// The call that waits.
    pub(super) call: ToolCallId,
    pub(super) expires_at: Timestamp,
}

impl SessionFacts {
    /// Returns the facts of a projection.
    pub(super) fn from_state(state: &SessionState) -> Self {
        let approvals = state.pending_approvals().map(|asked| PendingInteraction {
            id: asked.approval_id,
            call: asked.tool_call_id.clone(),
            expires_at: asked.expires_at,
        });
        let questions = state.pending_inputs().map(|asked| PendingInteraction {
            id: asked.input_id,
            call: asked.tool_call_id.clone(),
            expires_at: asked.expires_at,
        });
        Self {
            user: state.summary.user_id.clone(),
            open_run: state.summary.open_run,
            is_titled: !state.summary.title.is_empty(),
            settings: state.summary.settings.clone(),
            to_learn: state.summary.to_learn,
            approvals: approvals.collect(),
            questions: questions.collect(),
        }
    }
}
