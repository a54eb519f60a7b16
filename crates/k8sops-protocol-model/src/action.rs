//! What can happen: the steps of the client, of the processes, and of the store.

use crate::log::ProcessIndex;

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProtocolAction {
    /// The client sends its message, or sends it again.
    SubmitMessage {
        /// The process that takes it.
        through: ProcessIndex,
        /// Whether the write was confirmed.
        outcome: ConfirmOutcome,
    },
    /// The client approves the call, or does so again.
    Approve {
        /// The approval.
        approval: u8,
        /// The process that takes it.
        through: ProcessIndex,
        /// Whether the write was confirmed.
        outcome: ConfirmOutcome,
    },
    /// A process acquires the lease and loads the session.
    AcquireLease(ProcessIndex),
    /// The owner commits what is next.
    Commit(ProcessIndex),
    /// The owner's `tool_start` is confirmed.
    ConfirmStart {
        /// The owner.
        process: ProcessIndex,
        /// The copies that confirm it.
        copies: u8,
    },
    /// The owner checks its lease and sends the call.
    SendCall(ProcessIndex),
    /// A process compares what it knows with the log.
    CompareLog(ProcessIndex),
    /// The owner's lease expires: the process is paused, or does not reach its store.
    ExpireLease(ProcessIndex),
    /// The owner renews its lease at the primary that it has gone over to.
    RenewLease(ProcessIndex),
    /// A process crashes, and starts again without its memory.
    Crash(ProcessIndex),
    /// A process goes over to the current primary.
    Reconnect(ProcessIndex),
    /// The primary fails, and a copy becomes the primary.
    Failover {
        /// Which copy.
        promoted: usize,
        /// Which of the versions that it may have.
        version: usize,
        /// The copies that stay with the former primary, which goes on to serve; `None` if it is gone.
        cut_off: Option<u8>,
    },
    /// The former primary is made a copy of the current one.
    JoinFormerPrimary,
}

/// What became of the confirmation of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConfirmOutcome {
    /// None is asked for.
    NotAsked,
    /// The copies of this mask have confirmed.
    Confirmed(u8),
    /// There was none in time.
    Missing,
}
