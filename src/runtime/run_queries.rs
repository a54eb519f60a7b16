//! Finds runs of sessions by what the log and the inbox have of them.

use std::{sync::Arc, time::Duration};

use super::{error::SessionsError, sessions::Sessions};
use k8sops_core::{
    ChatMessage, InboxEntry, REPLAY_PAGE_SIZE, RunId, SessionEvent, SessionId, SessionSummary, Timestamp, UserId,
};

/// How far the clocks of replicas may differ.
const CLOCK_SKEW: Duration = Duration::from_mins(10);

/// Where a run is.
#[derive(Debug, Clone, PartialEq)]
pub enum RunLocation {
    /// In the log.
    Logged {
        /// The seq of the message that the run works on.
        message_seq: u64,
    },
    /// In the inbox: it starts after the runs before it.
    Queued(Box<InboxEntry>),
}

impl Sessions {
    /// Finds a run of a session; `None` if there is none with this id, or its message is no longer kept.
    ///
    /// # Errors
    /// `NotFound`, and store errors.
    pub async fn find_run(
        &self,
        user: &UserId,
        session: SessionId,
        run: RunId,
    ) -> Result<Option<RunLocation>, SessionsError> {
        let summary = self.get_session(user, session).await?;
        let store = self.0.dependencies.store.as_ref();
        // The inbox before the log: a message whose run starts in between is seen in one of the two.
        if summary.waiting {
            let entries = store.list_inbox(session).await?;
            if let Some(entry) = entries.into_iter().find(|entry| entry.starts_run(run)) {
                return Ok(Some(RunLocation::Queued(Box::new(entry))));
            }
        }
        let messages = self.0.conversations.read_messages(store, session, 0, usize::MAX).await?;
        for message_seq in possible_message_seqs(&messages, run) {
            let page = store.read_events(session, message_seq.saturating_sub(1), 1).await?;
            if page.events.first().is_some_and(|event| event.seq == message_seq && event.run_id == Some(run)) {
                return Ok(Some(RunLocation::Logged { message_seq }));
            }
        }
        Ok(None)
    }

    /// Reads the events of a session after the seq `after`, at most a page of them; none at the end of the log.
    ///
    /// # Errors
    /// Store errors.
    pub async fn read_log_page(
        &self,
        session: &SessionSummary,
        after: u64,
    ) -> Result<Vec<Arc<SessionEvent>>, SessionsError> {
        let store = self.0.dependencies.store.as_ref();
        Ok(store.read_events(session.session_id, after, REPLAY_PAGE_SIZE).await?.events)
    }
}

/// Returns the seqs of the messages that a run may work on: the one whose reply names the run, or those without a reply that are
/// not older than the run.
fn possible_message_seqs(messages: &[Arc<ChatMessage>], run: RunId) -> Vec<u64> {
    let mut unanswered = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let ChatMessage::User(message) = message.as_ref() else { continue };
        match messages.get(at + 1).map(Arc::as_ref) {
            Some(ChatMessage::Assistant(reply)) if reply.run_id == Some(run) => return vec![message.seq],
            Some(ChatMessage::Assistant(_) | ChatMessage::Tool(_)) => {}
            Some(ChatMessage::User(_)) | None => unanswered.push((message.seq, message.ts)),
        }
    }
    let is_new_enough = |ts: Timestamp| ts.saturating_add(CLOCK_SKEW) >= run.created_at();
    unanswered.into_iter().filter(|(_, ts)| is_new_enough(*ts)).map(|(seq, _)| seq).collect()
}
