//! Reads sessions for their users.

use std::sync::Arc;

use super::{error::SessionsError, sessions::Sessions};
use k8sops_core::{
    ChatMessage, CommandBody, CommandId, CommandReceipt, EventCursor, InboxEntry, ListCursor, LogHead, MessageId,
    OutputPart, RunId, SessionId, SessionState, SessionSummary, StoreError, ToolCallId, UserId, find_tool_end,
    load_state,
};
use tokio::runtime::Handle;

/// Returns at most `limit` bytes of a text from `offset` on.
pub(super) fn cut_text(text: &str, offset: u64, limit: usize) -> OutputPart {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
    let end = start.saturating_add(limit).min(text.len());
    OutputPart { bytes: text.as_bytes()[start..end].to_vec(), total: text.len() as u64 }
}

/// A part of the output of a tool call, and what is known of the whole.
#[derive(Debug, Clone)]
pub struct ToolOutputPart {
    /// The part.
    pub part: OutputPart,
    /// How many bytes of the output after the stored ones are not kept. Determined for the last part only.
    pub missing_bytes: u64,
}

/// A message that was accepted and that no owner has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingMessage {
    /// The id of the message.
    pub message_id: MessageId,
    /// The run that answers it.
    pub run_id: RunId,
    /// The text.
    pub content: String,
    /// The seq of the newest event when it was accepted: all events that it causes come after it.
    pub accepted_seq: u64,
}

impl WaitingMessage {
    fn from_entry(entry: InboxEntry) -> Option<Self> {
        let accepted_seq = entry.accepted_seq;
        match entry.command.body {
            CommandBody::Message { message_id, run_id, content, .. } => {
                Some(Self { message_id, run_id, content, accepted_seq })
            }
            _ => None,
        }
    }
}

impl Sessions {
    /// Lists a user's sessions, newest activity first.
    ///
    /// # Errors
    /// Store errors.
    pub async fn list_sessions(
        &self,
        user: &UserId,
        after: Option<ListCursor>,
        limit: usize,
    ) -> Result<Vec<SessionSummary>, SessionsError> {
        let mut listed = self.0.dependencies.store.list_sessions(user, after, limit).await?;
        for summary in listed.iter_mut().filter(|summary| self.0.known_logs.is_damaged(summary.session_id)) {
            // Nothing works on a damaged session.
            (summary.open_run, summary.waiting) = (None, false);
        }
        Ok(listed)
    }

    /// Returns a session. Sessions of other users are `NotFound`.
    ///
    /// # Errors
    /// `NotFound`, and store errors.
    pub async fn get_session(&self, user: &UserId, session: SessionId) -> Result<SessionSummary, SessionsError> {
        let summary = match self.0.dependencies.store.read_summary(session).await {
            // Only its user learns that it is damaged.
            Err(StoreError::Corrupt(_)) if !self.0.dependencies.store.is_session_of(user, session).await? => None,
            summary => summary?,
        };
        let summary = summary.filter(|s| &s.user_id == user).ok_or(SessionsError::NotFound(session))?;
        if self.0.known_logs.is_damaged(session) {
            self.0.verify_repair(session).await?;
            if summary.is_processing() {
                // Its owner has given it up.
                self.0.wake_owner(session);
            }
        }
        Ok(summary)
    }

    /// Returns the state of a session as of its newest event.
    ///
    /// # Errors
    /// `NotFound`, and store errors.
    pub async fn load_session(&self, user: &UserId, session: SessionId) -> Result<SessionState, SessionsError> {
        self.get_session(user, session).await?;
        Ok(load_state(self.0.dependencies.store.as_ref(), session).await?.state)
    }

    /// Returns the receipt of a command that a user sent before, as far back as the store knows it.
    ///
    /// # Errors
    /// Store errors.
    pub async fn find_receipt(
        &self,
        user: &UserId,
        session: SessionId,
        command: &CommandId,
    ) -> Result<Option<CommandReceipt>, SessionsError> {
        Ok(self.0.dependencies.store.find_receipt(session, user, command).await?)
    }

    /// Returns the messages that wait for an owner, in the order in which they were accepted.
    ///
    /// # Errors
    /// `NotFound`, and store errors.
    pub async fn list_waiting_messages(
        &self,
        user: &UserId,
        session: SessionId,
    ) -> Result<Vec<WaitingMessage>, SessionsError> {
        if !self.get_session(user, session).await?.waiting {
            return Ok(Vec::new());
        }
        let entries = self.0.dependencies.store.list_inbox(session).await?;
        Ok(entries.into_iter().filter_map(WaitingMessage::from_entry).collect())
    }

    /// Returns at most `limit` messages of a session's conversation, those after the seq `after`.
    ///
    /// # Errors
    /// `NotFound`, and store errors.
    pub async fn list_messages(
        &self,
        user: &UserId,
        session: SessionId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Arc<ChatMessage>>, SessionsError> {
        self.get_session(user, session).await?;
        Ok(self.0.conversations.read_messages(self.0.dependencies.store.as_ref(), session, after, limit).await?)
    }

    /// Opens a cursor over the session's log, starting after the event `after`.
    ///
    /// # Errors
    /// `NotFound`, and store errors.
    pub async fn open_cursor(
        &self,
        user: &UserId,
        session: SessionId,
        after: u64,
    ) -> Result<EventCursor, SessionsError> {
        self.open_cursor_unchecked(Some(user), session, after).await
    }

    /// Lets the next actor of a session live on the current thread, because a stream of the session does.
    pub fn prefer_this_thread(&self, session: SessionId) {
        self.0.registry.record_watcher(session, Handle::current().id());
    }

    /// Opens a cursor for a user, or without a user for a caller that has sent a command to the session.
    pub(super) async fn open_cursor_unchecked(
        &self,
        user: Option<&UserId>,
        session: SessionId,
        after: u64,
    ) -> Result<EventCursor, SessionsError> {
        // The feed before the summary: a commit in between notifies the feed.
        let feed = self.0.registry.get_or_create_feed(session);
        self.prefer_this_thread(session);
        self.0.remote_tails.follow(session, &feed);
        let held = feed.held_position();
        let summary = match user {
            Some(user) => self.get_session(user, session).await?,
            None => self.0.dependencies.store.read_summary(session).await?.ok_or(SessionsError::NotFound(session))?,
        };
        feed.observe_head(&held, LogHead::at_seq(summary.last_seq));
        Ok(EventCursor::new(self.0.dependencies.store.clone(), session, feed, after))
    }

    /// Reads at most `limit` bytes of the whole output of a tool call or of a whole attachment, starting at `offset`.
    ///
    /// # Errors
    /// `NotFound`, `OutputNotFound`, `OutputMissing`, and store errors.
    pub async fn read_tool_output(
        &self,
        user: &UserId,
        session: SessionId,
        call: &ToolCallId,
        offset: u64,
        limit: usize,
    ) -> Result<ToolOutputPart, SessionsError> {
        self.get_session(user, session).await?;
        let store = self.0.dependencies.store.as_ref();
        let stored = store.read_output(session, call, offset, limit).await?;
        let whole = |part| ToolOutputPart { part, missing_bytes: 0 };
        let stored = match stored {
            Some(part) if offset.saturating_add(part.bytes.len() as u64) < part.total => return Ok(whole(part)),
            stored => stored,
        };
        match (stored, find_tool_end(store, session, call).await?) {
            (Some(part), Some(end)) => Ok(ToolOutputPart { missing_bytes: end.bytes.saturating_sub(part.total), part }),
            (Some(part), None) => Ok(whole(part)),
            (None, Some(end)) if end.truncated => {
                Err(SessionsError::OutputMissing { call: call.clone(), bytes: end.bytes })
            }
            // An output that was not truncated is in the log.
            (None, Some(end)) => Ok(whole(cut_text(&end.content, offset, limit))),
            (None, None) => {
                let state = load_state(store, session).await?.state;
                match state.find_attachment(call) {
                    Some(attachment) if attachment.truncated => {
                        Err(SessionsError::OutputMissing { call: call.clone(), bytes: attachment.bytes })
                    }
                    Some(attachment) => Ok(whole(cut_text(&attachment.text, offset, limit))),
                    None => Err(SessionsError::OutputNotFound(call.clone())),
                }
            }
        }
    }

    /// Returns the seq of the oldest event that is kept.
    ///
    /// # Errors
    /// Store errors.
    pub async fn oldest_seq(&self, session: SessionId) -> Result<u64, SessionsError> {
        Ok(self.0.dependencies.store.read_oldest_seq(session).await?)
    }
}
