//! What a session actor wants done.

use std::sync::Arc;

use k8sops_core::{
    EventBody, EventDraft, RequestContext, RunFailed, RunId, SentAttachment, SessionCommand, StoreError, Timestamp,
    UserId,
};

/// An effect of a step. The first group are operations: they take time, one is in progress at a time, and each is answered by
/// one input. The others are done at once, in their order.
#[derive(Debug)]
pub(super) enum ActorEffect {
    /// Acquires the lease and loads the log.
    OpenSession,
    /// Writes a batch to the log.
    Commit(CommitBatch),
    /// Accepts the message that was offered, and writes a batch with the start of its run, which comes back with the answer.
    CommitMessage(Arc<SessionCommand>, CommitBatch, Box<RunStart>),
    /// Records the newest commit in the audit trail and in the usage of the user.
    RecordCommit,
    /// Records until when approvals are pending.
    RecordApprovals(Option<Timestamp>),
    /// Checks that the store has lost no events, and finds lost messages.
    CheckLog,
    /// Reads the inbox.
    ReadInbox,
    /// Stops the tasks of the session and releases the lease.
    ReleaseLease(StateRetention),
    /// Makes room for another actor of the session, unless this one was notified meanwhile.
    LeaveRegistry,

    /// Starts the task of a run, which waits for the commit of its start as for an append of its own.
    StartRun(RunStart),
    /// Declines the message that was offered.
    DeclineMessage,
    /// Cancels the run in progress.
    CancelRun,
    /// Starts the extraction of memories.
    StartExtraction,
    /// Tells the tasks that the oldest appends without an acknowledgement are durable: so many.
    AcknowledgeAppends(usize),
    /// Releases the capacity that was reserved for a run.
    ReleaseCapacity,
    /// Counts and logs what stopped the actor.
    ReportFailure(StoreError),
    /// Ends the streams of the session.
    CloseFeed(ClosedSession),
}

/// Whether the store keeps the state of a released session for the next owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StateRetention {
    /// The next message may come soon.
    Keep,
    /// Another process may own the session, or the service shuts down.
    Drop,
}

/// Why a session has no owner any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClosedSession {
    Deleted,
    Damaged,
}

/// The start of a run.
#[derive(Debug, Clone)]
pub(super) struct RunStart {
    pub(super) run_id: RunId,
    pub(super) provider: String,
    pub(super) model: String,
    pub(super) cause: RequestContext,
    pub(super) attempt: u32,
    /// The attachments whose whole texts are to be stored.
    pub(super) attachments: Vec<SentAttachment>,
    /// The memories to retrieve while the start is being committed.
    pub(super) recall: Option<MemoryQuery>,
}

/// For which message memories are retrieved.
#[derive(Debug, Clone)]
pub(super) struct MemoryQuery {
    pub(super) user: UserId,
    pub(super) message: String,
}

/// The content of a commit.
#[derive(Debug, Default)]
pub(in crate::runtime) struct CommitBatch {
    pub(in crate::runtime) drafts: Vec<EventDraft>,
    /// Positions of the inbox entries that the events come from.
    pub(in crate::runtime) consumed: Vec<u64>,
    /// How many appends of tasks are in it.
    pub(in crate::runtime) appends: usize,
    /// Closes the open run, after the events.
    pub(in crate::runtime) failure: Option<RunFailed>,
    pub(in crate::runtime) checkpoint: bool,
    /// The seq of the first event, if seqs are left out before it.
    pub(in crate::runtime) first_seq: Option<u64>,
}

impl CommitBatch {
    pub(super) fn is_empty(&self) -> bool {
        self.drafts.is_empty()
            && self.consumed.is_empty()
            && self.appends == 0
            && self.failure.is_none()
            && !self.checkpoint
    }

    /// Returns whether an event that `is_event` accepts is in it.
    pub(super) fn has_event(&self, is_event: impl Fn(&EventBody) -> bool) -> bool {
        self.drafts.iter().any(|draft| is_event(&draft.body))
    }
}
