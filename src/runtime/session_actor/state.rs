//! The states of a session actor, each with the data that is valid in it.

use std::{sync::Arc, time::Duration};

use k8sops_core::{RunFailed, RunId, SessionCommand, Timestamp};

use super::{
    effects::{ClosedSession, CommitBatch},
    inputs::{ActorPolicy, ActorTime, SessionFacts},
};

/// Interval of reading an inbox that other processes write to, in case a notification is lost.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(3);
/// How long an owner without work keeps the session for the next message.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a session must be idle before memories are extracted, so that messages in a row are extracted together.
pub(super) const EXTRACTION_DELAY: Duration = Duration::from_secs(2);
/// How often the wall clock is read while something can expire: timers stop while the machine is suspended.
pub(super) const CLOCK_INTERVAL: Duration = Duration::from_secs(5);

/// The state of a session actor.
#[derive(Debug)]
pub(super) enum SessionActorState {
    /// The lease is being acquired and the log loaded.
    Opening { backoff: RetryBackoff, shutdown: ShutdownNotice },
    /// There is no lease. The session is opened again at `at`.
    Retrying { at: Duration, backoff: RetryBackoff },
    /// The lease is held.
    Owned(Box<OwnedSession>),
    /// The lease is being released.
    Releasing { next: AfterRelease },
    /// There is no lease, and no work that is known of. The slot of the session is given up unless it was notified.
    Leaving { backoff: RetryBackoff },
    /// The actor is over.
    Ended,
}

/// A session under a lease.
#[derive(Debug)]
pub(super) struct OwnedSession {
    pub(super) activity: SessionActivity,
    pub(super) facts: SessionFacts,
    pub(super) policy: ActorPolicy,
    /// What the next commit writes.
    pub(super) queue: CommitBatch,
    /// The operation in progress.
    pub(super) operation: Option<ActorOperation>,
    pub(super) inbox: InboxNews,
    /// A message that is offered, until it is being committed or is declined.
    pub(super) offered: Option<Arc<SessionCommand>>,
    /// When the log and the inbox are looked at next; `None` if no other process writes to the store.
    pub(super) next_look: Option<Duration>,
    pub(super) approvals: ApprovalRecord,
    /// The delay after the next failure.
    pub(super) backoff: RetryBackoff,
}

/// What the owner of a session is about.
#[derive(Debug, PartialEq)]
pub(super) enum SessionActivity {
    /// It has no run, and reads the inbox or commits.
    Working { extraction: ExtractionTask },
    /// It has nothing to do since this time.
    Idle { since: Duration },
    /// It has nothing to do but to wait for the extraction of memories.
    Extracting,
    /// A run is in progress.
    Running { run: RunStage, extraction: ExtractionTask },
    /// The service shuts down: what is in progress is ended, and nothing is started.
    Draining { run: Option<RunStage> },
}

/// Whether memories are being extracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExtractionTask {
    None,
    Started,
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum RunStage {
    /// Its task was started and has not ended.
    Active(RunId),
    /// Its task has ended and did not close it. The failure is committed after what the task has appended.
    Failing(RunFailed),
}

/// Whether the inbox may hold commands that were not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InboxNews {
    None,
    Unread,
}

/// What the index of pending approvals says of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ApprovalRecord {
    /// Approvals are pending until this time, if any are.
    Recorded(Option<Timestamp>),
    /// It must be written, whatever it says.
    Due,
    /// It could not be written. It is written again after the next commit or look.
    Failed,
}

/// An operation of the owner of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ActorOperation {
    /// With so many appends of tasks.
    Commit {
        appends: usize,
    },
    CommitMessage,
    RecordCommit,
    RecordApprovals(Option<Timestamp>),
    CheckLog,
    ReadInbox,
}

/// Whether the actor knows that the service shuts down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ShutdownNotice {
    None,
    Received,
}

/// What follows the release of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterRelease {
    /// No work is left, or another process does it.
    Leave { backoff: RetryBackoff },
    /// The session is opened again later.
    Retry { backoff: RetryBackoff },
    /// The session cannot be owned any more.
    Close(ClosedSession),
    /// The actor ends: the service shuts down.
    End,
}

/// The delay after the next failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RetryBackoff(Duration);

impl RetryBackoff {
    const FIRST: Duration = Duration::from_millis(200);
    const MAX: Duration = Duration::from_secs(2);

    pub(super) const fn delay(self) -> Duration {
        self.0
    }

    /// Returns the delay after the failure that follows.
    pub(super) fn doubled(self) -> Self {
        Self((self.0 * 2).min(Self::MAX))
    }
}

impl Default for RetryBackoff {
    fn default() -> Self {
        Self(Self::FIRST)
    }
}

impl SessionActorState {
    /// Returns when the actor has to look at the clock again.
    pub(super) fn next_deadline(&self, now: ActorTime) -> Option<Duration> {
        match self {
            Self::Retrying { at, .. } => Some(*at),
            Self::Owned(session) => session.next_deadline(now),
            Self::Opening { .. } | Self::Releasing { .. } | Self::Leaving { .. } | Self::Ended => None,
        }
    }

    /// Returns whether the actor knows that the service shuts down, or does not need to.
    pub(super) fn shutdown(&self) -> ShutdownNotice {
        let awaits_it = match self {
            Self::Opening { shutdown, .. } => return *shutdown,
            Self::Owned(session) => !session.is_draining(),
            Self::Releasing { next } => matches!(next, AfterRelease::Leave { .. } | AfterRelease::Retry { .. }),
            Self::Retrying { .. } => true,
            Self::Leaving { .. } | Self::Ended => false,
        };
        if awaits_it { ShutdownNotice::None } else { ShutdownNotice::Received }
    }
}

impl OwnedSession {
    pub(super) fn is_draining(&self) -> bool {
        matches!(self.activity, SessionActivity::Draining { .. })
    }

    /// Returns until when approvals or questions are pending.
    pub(super) fn pending_until(&self) -> Option<Timestamp> {
        let approvals = self.facts.approvals.iter().map(|asked| asked.expires_at);
        let questions = self.facts.questions.iter().map(|asked| asked.expires_at);
        approvals.chain(questions).max()
    }

    fn next_deadline(&self, now: ActorTime) -> Option<Duration> {
        // The step after an operation looks at the clock.
        if self.operation.is_some() {
            return None;
        }
        [self.next_look, self.next_expiry(now), self.idle_until()].into_iter().flatten().min()
    }

    /// Returns when something may have expired. That is decided by the wall clock, which can jump.
    fn next_expiry(&self, now: ActorTime) -> Option<Duration> {
        let approvals = self.facts.approvals.iter().map(|asked| asked.expires_at);
        let questions = self.facts.questions.iter().map(|asked| asked.expires_at);
        let left = approvals.chain(questions).min()?.saturating_duration_since(now.wall);
        Some(now.elapsed + left.min(CLOCK_INTERVAL))
    }

    /// Returns until when the actor waits for work before it does what an idle one does.
    pub(super) fn idle_until(&self) -> Option<Duration> {
        match self.activity {
            SessionActivity::Idle { since } if self.facts.to_learn => Some(since + EXTRACTION_DELAY),
            SessionActivity::Idle { since } => Some(since + IDLE_TIMEOUT),
            _ => None,
        }
    }
}

impl SessionActivity {
    /// Returns whether memories are being extracted. A session that drains does not wait for it.
    pub(super) fn extraction(&self) -> ExtractionTask {
        match self {
            Self::Working { extraction } | Self::Running { extraction, .. } => *extraction,
            Self::Extracting => ExtractionTask::Started,
            Self::Idle { .. } | Self::Draining { .. } => ExtractionTask::None,
        }
    }
}
