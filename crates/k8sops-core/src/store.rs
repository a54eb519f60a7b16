//! The port `SessionStore`: what the session core needs of a storage backend. The contract is written as a suite that
//! every implementation passes (`store::contract`).

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use serde::{Deserialize, Serialize};

use super::{
    CommandId, CommandReceipt, InboxEntry, LongTermStore, MessageId, OutputStore, SessionCommand, SessionEvent,
    SessionId, SessionState, SessionSummary, TextDelta, Timestamp, UsageStore, UserId,
};

/// The number of an ownership of a session. Grows with every new owner; a write of an older epoch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct LeaseEpoch(pub u64);

/// Why a store did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// There is no such session (any more).
    #[error("there is no session {0}")]
    NotFound(SessionId),
    /// A session with this id exists.
    #[error("session {0} exists already")]
    Exists(SessionId),
    /// The epoch of the write is over: another owner has taken the session.
    #[error("epoch {} of session {session} is over, epoch {} holds it", attempted.0, current.0)]
    Fenced {
        /// The session.
        session: SessionId,
        /// The epoch of the refused write.
        attempted: LeaseEpoch,
        /// The epoch that holds the session.
        current: LeaseEpoch,
    },
    /// Another owner holds the lease, and it has not run out.
    #[error("session {0} is held by another owner")]
    Held(SessionId),
    /// The log's head is not where the writer believes it to be.
    #[error("the log of session {session} ends at seq {found}, the write expected {expected}")]
    SeqConflict {
        /// The session.
        session: SessionId,
        /// The head that the writer expected.
        expected: u64,
        /// The head as it is.
        found: u64,
    },
    /// The message was to be refused when the session is busy, and it is.
    #[error("session {0} has a run in progress")]
    Busy(SessionId),
    /// The command id was used before, for something else.
    #[error("the command id was used before for a different command")]
    CommandIdReused,
    /// The inbox holds as many commands as it may.
    #[error("the session has {0} commands waiting, which is the limit")]
    InboxFull(usize),
    /// Another process works on the same storage, and it takes one at a time.
    #[error("{0}")]
    InUse(String),
    /// The backend cannot be reached or does not answer; nothing is known to be written.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// What is stored of a session cannot be read. The others are not affected, and it can be deleted.
    #[error("what is stored cannot be read: {0}")]
    Corrupt(String),
}

/// The right to write to a session, for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLease {
    /// The session.
    pub session: SessionId,
    /// The epoch that all writes under this lease carry.
    pub epoch: LeaseEpoch,
}

/// One atomic write of a session's owner: all of it happens, or nothing.
#[derive(Debug)]
pub struct LogCommit<'a> {
    /// The session.
    pub session: SessionId,
    /// The writer's epoch.
    pub epoch: LeaseEpoch,
    /// The log's head as the writer knows it.
    pub expected_seq: u64,
    /// The next events, the first with `expected_seq + 1`, then gapless. May be empty when only the inbox is consumed.
    pub events: &'a [Arc<SessionEvent>],
    /// Places in the inbox that this write takes out of it.
    pub consumed: &'a [u64],
    /// The summary after these events.
    pub summary: &'a SessionSummary,
    /// A checkpoint to keep, as of `expected_seq`: before these events.
    pub checkpoint: Option<&'a SessionState>,
}

/// Events in their order, read from a log.
#[derive(Debug, Clone, Default)]
pub struct EventPage {
    /// The events, gapless. Empty only when there is nothing after the cursor.
    pub events: Vec<Arc<SessionEvent>>,
    /// The seq of the newest event in the log.
    pub last_seq: u64,
    /// The seq of the oldest event that is kept.
    pub oldest_seq: u64,
}

/// A place in a list of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListCursor {
    /// [`SessionSummary::updated_at`] of the last session seen.
    pub updated_at: Timestamp,
    /// Its id.
    pub session_id: SessionId,
}

/// Storage of sessions: logs, inboxes, leases and the index. Every method may be called at any time from any task.
#[async_trait]
pub trait SessionStore: OutputStore + UsageStore + LongTermStore {
    /// The name of the backend, as `MEMORY_BACKEND` spells it.
    fn backend(&self) -> &'static str;

    /// Whether the backend can be used now.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Begins a session with its first event, which must be a `session_created` with seq 1. `Exists` when the id is taken.
    async fn create(&self, created: &SessionEvent) -> Result<(), StoreError>;

    /// What the index says of a session. `Corrupt` when it is there and cannot be read.
    async fn summary(&self, session: SessionId) -> Result<Option<SessionSummary>, StoreError>;

    /// A user's sessions, newest activity first (ties: greater id first), from after `after` on. A store that can find
    /// sessions without reading them lists those that cannot be read, too.
    async fn list(
        &self,
        user: &UserId,
        after: Option<ListCursor>,
        limit: usize,
    ) -> Result<Vec<SessionSummary>, StoreError>;

    /// About how many sessions a user has; never less than there are.
    async fn count(&self, user: &UserId) -> Result<usize, StoreError>;

    /// Removes a session and all that belongs to it, its outputs too. `NotFound` when there is none.
    async fn delete(&self, session: SessionId) -> Result<(), StoreError>;

    /// Removes a session like [`Self::delete`], if it has no open run and an empty inbox; whether it has. Atomic: what is
    /// accepted before it keeps the session, and what comes after it finds none.
    async fn delete_idle(&self, session: SessionId) -> Result<bool, StoreError>;

    /// Sessions that have work ([`SessionSummary::has_work`], or commands in the inbox) and, as far as is known, nobody who does it. A store
    /// of several processes hands each to one caller at a time, and again after a while if the work is still there.
    async fn unfinished(&self) -> Result<Vec<SessionId>, StoreError>;

    /// Sessions that are known to be damaged, each with what was found; for `k8sops doctor`.
    async fn damaged(&self) -> Result<Vec<(SessionId, String)>, StoreError> {
        Ok(Vec::new())
    }

    /// Takes the ownership under a new epoch. `Held` while another owner's lease has not run out.
    async fn acquire(&self, session: SessionId, owner: &str, ttl: Duration) -> Result<SessionLease, StoreError>;

    /// Holds the ownership for another `ttl`. `Fenced` when it is lost.
    async fn renew(&self, lease: SessionLease, ttl: Duration) -> Result<(), StoreError>;

    /// Gives the ownership up, and says whether there is work left, as of the same instant. No error when the lease is lost
    /// already: then what is left is another owner's.
    async fn release(&self, lease: SessionLease) -> Result<bool, StoreError>;

    /// The one way to write to a log. `Fenced`, `SeqConflict`, `NotFound`: nothing was written, and nothing will be.
    async fn commit(&self, commit: LogCommit<'_>) -> Result<(), StoreError>;

    /// Events after `after`, at most `limit` (and at least one, if there is one).
    /// An `after` before what is kept begins at the oldest; one beyond the head gives an empty page.
    async fn read(&self, session: SessionId, after: u64, limit: usize) -> Result<EventPage, StoreError>;

    /// The newest checkpoint, if one was kept.
    async fn checkpoint(&self, session: SessionId) -> Result<Option<SessionState>, StoreError>;

    /// Puts a command into the inbox; it is durable when this returns. A command id that was taken of the same
    /// sender before gives its first receipt again, marked `duplicate` (of the last thousand commands of the session at least).
    /// A message that asks for it ([`SessionCommand::only_if_idle`]) gets `Busy` when a run is open or a message is in the inbox.
    async fn submit(&self, session: SessionId, command: SessionCommand) -> Result<CommandReceipt, StoreError>;

    /// The receipt of a command that was taken (as far back as [`Self::submit`] knows them).
    async fn receipt(
        &self,
        session: SessionId,
        by: &UserId,
        command: &CommandId,
    ) -> Result<Option<CommandReceipt>, StoreError>;

    /// The inbox in its order.
    async fn inbox(&self, session: SessionId) -> Result<Vec<InboxEntry>, StoreError>;

    /// What the store does beyond this when several processes work on it; `None` when one has it for itself.
    fn shared(&self) -> Option<&dyn SharedStore> {
        None
    }
}

/// What several processes need to see of each other's work. Nothing here is relied on for what is logged: a ring that is
/// lost delays a look, and a preview that is lost is made good by the message when it is committed.
#[async_trait]
pub trait SharedStore: Send + Sync {
    /// Adds to what can be seen of an open message. Refused silently when the lease or the message is over.
    async fn write_preview(
        &self,
        lease: SessionLease,
        message: MessageId,
        pieces: &[MessagePreview],
    ) -> Result<(), StoreError>;

    /// The pieces of the open message after the place `after`, in their order.
    async fn read_preview(&self, session: SessionId, after: u64) -> Result<PreviewPage, StoreError>;

    /// Notes that a session's run waits for an approval until then; `None`: it does not. A note whose time is over is dropped.
    async fn note_waiting(&self, session: SessionId, until: Option<Timestamp>) -> Result<(), StoreError>;

    /// Sessions that were noted, those whose time runs out first, at most `limit`.
    async fn waiting(&self, limit: usize) -> Result<Vec<SessionId>, StoreError>;

    /// Asks to be rung for a session, from soon on; a [`StoreNotification`] of the same says when that is.
    fn listen(&self, session: SessionId, topic: NotificationTopic);

    /// Asks to be rung no more.
    fn leave(&self, session: SessionId, topic: NotificationTopic);

    /// The next ring. For one caller; cancel safe.
    async fn ring(&self) -> StoreNotification;
}

/// What a session is listened to for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotificationTopic {
    /// Its log has grown, or the preview of its open message.
    Log,
    /// Its inbox has something new.
    Inbox,
}

/// A sign that a look is worth while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreNotification {
    /// At this session, for this.
    Session(SessionId, NotificationTopic),
    /// At the sessions that nobody works on.
    Unfinished,
    /// At everything that is listened to: rings may have been lost.
    All,
}

/// A piece of what is seen before it is logged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum MessagePreview {
    /// Text of the open message.
    Token(TextDelta),
    /// Reasoning of the open message.
    Reasoning(TextDelta),
}

impl MessagePreview {
    /// The message that it is a piece of.
    #[must_use]
    pub fn message_id(&self) -> MessageId {
        let (Self::Token(delta) | Self::Reasoning(delta)) = self;
        delta.message_id
    }
}

/// See [`SharedStore::read_preview`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PreviewPage {
    /// The pieces.
    pub pieces: Vec<MessagePreview>,
    /// The place after the last of them.
    pub place: u64,
}

/// The most messages that an inbox holds; one more is refused with `InboxFull`.
pub const INBOX_LIMIT: usize = 100;

/// The most commands of all kinds that an inbox holds. A cancel must find room behind any number of messages.
pub const INBOX_LIMIT_ALL: usize = 2 * INBOX_LIMIT;

/// Events read at once when a log is replayed.
pub const READ_PAGE: usize = 256;

/// A session as it was read from the store.
#[derive(Debug)]
pub struct LoadedSession {
    /// The state as of the log's head.
    pub state: SessionState,
    /// The weight ([`SessionEvent::weight`]) of the events after the checkpoint.
    pub replayed: u64,
}

/// A session's state as of its head: the checkpoint and the events after it.
///
/// # Errors
/// `NotFound`, `Unavailable`, `Corrupt`.
pub async fn load_state(store: &dyn SessionStore, session: SessionId) -> Result<LoadedSession, StoreError> {
    let mut state = store.checkpoint(session).await?;
    let mut replayed = 0;
    loop {
        let after = state.as_ref().map_or(0, SessionState::last_seq);
        let page = store.read(session, after, READ_PAGE).await?;
        if page.events.first().is_some_and(|first| first.seq != after + 1) {
            // The log was cut back to a newer checkpoint between the two reads.
            state = store.checkpoint(session).await?;
            if state.as_ref().map_or(0, SessionState::last_seq) <= after {
                return Err(StoreError::Corrupt(format!("the log of session {session} has a gap after seq {after}")));
            }
            replayed = 0;
            continue;
        }
        if page.events.is_empty() && page.last_seq > after {
            return Err(StoreError::Corrupt(format!(
                "the log of session {session} ends after seq {after}, not {}",
                page.last_seq
            )));
        }
        replayed += page.events.iter().map(|event| event.weight()).sum::<u64>();
        state = SessionState::fold(state, page.events.iter().map(AsRef::as_ref));
        match state {
            None => return Err(StoreError::Corrupt(format!("session {session} does not begin with session_created"))),
            Some(state) if state.last_seq() >= page.last_seq => return Ok(LoadedSession { state, replayed }),
            Some(_) => {}
        }
    }
}
