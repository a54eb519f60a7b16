//! The port [`SessionLog`]: the events of sessions.

use std::sync::Arc;

use async_trait::async_trait;

use super::{BackendError, LeaseEpoch, SessionLease, StoreError};
use crate::{
    command::{CommandReceipt, SessionCommand},
    event::{EventBody, SessionEvent},
    ids::{SessionId, ToolCallId},
    lineage::{LogHead, LogLineage, LostBranch},
    state::SessionState,
    summary::SessionSummary,
};

/// One atomic write of a session's owner: all of it takes effect, or nothing.
#[derive(Debug, Clone, Copy)]
pub struct LogCommit<'a> {
    /// The session to write to.
    pub session: SessionId,
    /// The writer's epoch.
    pub epoch: LeaseEpoch,
    /// The seq at which the writer expects the log to end.
    pub expected_seq: u64,
    /// The chain value that the writer expects there; `None` if it is not known.
    pub expected_lineage: Option<LogLineage>,
    /// The next events: the first has the seq `expected_seq + 1`, or a later one if it is a `log_truncated`; the rest follow
    /// without gaps. Empty if the commit only consumes commands or writes a checkpoint.
    pub events: &'a [Arc<SessionEvent>],
    /// Positions of the inbox entries that this write handles and removes.
    pub consumed: &'a [u64],
    /// The summary after these events.
    pub summary: &'a SessionSummary,
    /// A checkpoint to keep, as of `expected_seq`: before these events.
    pub checkpoint: Option<&'a SessionState>,
}

impl LogCommit<'_> {
    /// Whether the events have the seqs that they must have, and the checkpoint is as of the event before them.
    #[must_use]
    pub fn has_valid_seqs(&self) -> bool {
        let mut last_seq = self.expected_seq;
        let checkpoint_fits = self.checkpoint.is_none_or(|state| state.last_seq() == last_seq);
        let events_fit = self.events.iter().all(|event| {
            let fits = event.body.may_follow(last_seq, event.seq);
            last_seq = event.seq;
            fits
        });
        checkpoint_fits && events_fit
    }

    /// The seq of the newest event after the commit.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.events.last().map_or(self.expected_seq, |event| event.seq)
    }

    /// Whether the commit says what the store has lost, see [`SessionLog::report_lost_branch`].
    #[must_use]
    pub fn says_lost(&self) -> bool {
        self.events.first().is_some_and(|first| first.body.is_log_truncated())
    }

    /// Whether the commit says that all calls of a report are lost. The report may be newer than what the owner has loaded.
    #[must_use]
    pub fn says_all_of(&self, reported: &LostBranch) -> bool {
        let Some(EventBody::LogTruncated(said)) = self.events.first().map(|first| &first.body) else { return false };
        let is_said = |id: &ToolCallId| said.lost_calls.iter().any(|call| call.tool_call_id == *id);
        reported.calls.iter().all(|call| is_said(&call.tool_call_id))
    }

    /// Whether the commit says which messages are lost, see [`Inbox::find_lost_messages`](super::Inbox::find_lost_messages).
    /// They can be sent again under their ids: the store forgets the receipts of commands that neither the log nor the inbox
    /// has.
    #[must_use]
    pub fn says_messages_lost(&self) -> bool {
        self.events.iter().any(|event| event.body.is_message_lost())
    }
}

/// Consecutive events that were read from a log.
#[derive(Debug, Clone, Default)]
pub struct EventPage {
    /// The events. Empty only if the log has no events after the cursor.
    pub events: Vec<Arc<SessionEvent>>,
    /// The chain value directly before the first event; `None` if it is not known.
    pub lineage_before: Option<LogLineage>,
    /// The chain value after the last event; `None` if it is not known, or there is no event.
    pub lineage_after: Option<LogLineage>,
    /// The chain value at the newest event in the log; `None` if it is not known.
    pub head_lineage: Option<LogLineage>,
    /// What was reported of events that the store has lost, until the log says it.
    pub lost_branch: Option<LostBranch>,
    /// The seq of the newest event in the log.
    pub last_seq: u64,
    /// The seq of the oldest event that is kept.
    pub oldest_seq: u64,
}

impl EventPage {
    /// Where the log ends.
    #[must_use]
    pub fn head(&self) -> LogHead {
        LogHead { seq: self.last_seq, lineage: self.head_lineage }
    }

    /// The position after the page.
    #[must_use]
    pub fn end(&self) -> LogHead {
        self.events.last().map_or_else(|| self.head(), |last| LogHead { seq: last.seq, lineage: self.lineage_after })
    }

    /// The seq of the oldest event that is kept, by a page that was read from there on.
    ///
    /// # Errors
    /// `Corrupt` if the log has no events although it should.
    pub fn first_kept_seq(&self, session: SessionId) -> Result<u64, StoreError> {
        if self.events.is_empty() && self.oldest_seq <= self.last_seq {
            return Err(StoreError::Corrupt(format!("the log of session {session} has no events").into()));
        }
        Ok(self.oldest_seq)
    }

    /// Whether the log still has the event at `held`, the position after which the page was read. If not, the store has lost
    /// acknowledged writes.
    #[must_use]
    pub fn continues(&self, held: LogHead) -> bool {
        if self.head().contradicts(held) {
            return false;
        }
        let is_kept = self.oldest_seq <= held.seq + 1;
        let Some(first) = self.events.first().filter(|_| is_kept) else { return true };
        match (self.lineage_before, held.lineage) {
            (Some(before), Some(held)) => before == held,
            _ => !first.body.says_lost(held.seq),
        }
    }
}

/// From where a session's log is replayed.
#[derive(Debug, Clone, Default)]
pub struct ReplayStart {
    /// The newest checkpoint, or a later state; `None` to replay the log from its first event on.
    pub state: Option<SessionState>,
    /// The size ([`SessionEvent::estimated_bytes`]) of the events between the newest checkpoint and `state`.
    pub replayed_bytes: u64,
    /// Why the newest checkpoint cannot be read, if that is so. The log itself has everything that it said.
    pub damaged_checkpoint: Option<BackendError>,
}

/// How [`SessionLog::commit_new_command`] ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewCommandCommit {
    /// The command is accepted, and the events are in the log.
    Committed {
        /// The acknowledgement of the command.
        receipt: CommandReceipt,
        /// The chain value after the commit; `None` if the store keeps none.
        lineage: Option<LogLineage>,
    },
    /// Nothing was written: commands wait in the inbox, or the command may have been accepted before. It has to be submitted
    /// ([`Inbox::submit_command`](super::Inbox::submit_command)).
    Declined,
}

/// The logs of sessions.
#[async_trait]
pub trait SessionLog: Send + Sync + 'static {
    /// Creates a session with its first event, which must be a `session_created` with seq 1. Fails with `Exists` if the id
    /// is taken.
    async fn create_session(&self, created: &SessionEvent) -> Result<(), StoreError>;

    /// Appends events and consumes commands; the one way to write to a log. Returns the chain value after the commit; `None`
    /// if the store keeps none. After `Fenced`, `SeqConflict`, `Forked` or `NotFound` nothing was written, and nothing will
    /// be.
    async fn commit_events(&self, commit: LogCommit<'_>) -> Result<Option<LogLineage>, StoreError>;

    /// Accepts a command and appends the events that it causes, with one wait for durability. It has the result of
    /// [`Inbox::submit_command`](super::Inbox::submit_command) and a commit that consumes the command. Of a write that did not
    /// return, nothing may be left, or all of it.
    ///
    /// A command is declined unless it is new and the inbox is empty, so that no command overtakes another. A commit that
    /// consumes commands or writes a checkpoint is declined as well. The errors are those of [`Self::commit_events`].
    async fn commit_new_command(
        &self,
        _commit: LogCommit<'_>,
        _command: &SessionCommand,
    ) -> Result<NewCommandCommit, StoreError> {
        Ok(NewCommandCommit::Declined)
    }

    /// Reads events after the seq `after`, at most `limit` (and at least one, if there is one). An `after` before the
    /// oldest event that is kept reads from that one; an `after` beyond the end of the log reads an empty page.
    async fn read_events(&self, session: SessionId, after: u64, limit: usize) -> Result<EventPage, StoreError>;

    /// The seq of the oldest event that is kept.
    async fn read_oldest_seq(&self, session: SessionId) -> Result<u64, StoreError> {
        self.read_events(session, 0, 1).await?.first_kept_seq(session)
    }

    /// The newest checkpoint, if one was kept.
    async fn read_checkpoint(&self, session: SessionId) -> Result<Option<SessionState>, StoreError>;

    /// From where the log is replayed. A store that has replayed it already returns the state that it found.
    async fn read_replay_start(&self, session: SessionId) -> Result<ReplayStart, StoreError> {
        Ok(ReplayStart { state: self.read_checkpoint(session).await?, ..ReplayStart::default() })
    }

    /// Hands over the state as of the newest event, which an owner knows when it releases a session without work. A store may
    /// keep it in memory for the next reader or owner, or ignore it. It is not written.
    async fn keep_state(&self, _lease: SessionLease, _state: SessionState) -> Result<(), StoreError> {
        Ok(())
    }

    /// Records what is known of events that the store has lost, for the next owner ([`EventPage::lost_branch`]). Until a
    /// commit begins with a `log_truncated`, commits that would use a seq of the lost events fail with `Forked`.
    ///
    /// A store that one process has to itself need not record it.
    async fn report_lost_branch(&self, _session: SessionId, _lost: &LostBranch) -> Result<(), StoreError> {
        Ok(())
    }
}
