//! What a user sees of their sessions.

use std::sync::Arc;

use super::{Sessions, SessionsError};
use k8sops_core::{
    ChatMessage, EventCursor, ListCursor, OutputPart, SessionId, SessionState, SessionSummary, StoreError, ToolCallId,
    UserId, load_state,
};

impl Sessions {
    /// A user's sessions, newest activity first.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn list(
        &self,
        user: &UserId,
        after: Option<ListCursor>,
        limit: usize,
    ) -> Result<Vec<SessionSummary>, SessionsError> {
        Ok(self.0.parts.store.list_sessions(user, after, limit).await?)
    }

    /// One session. Somebody else's does not exist.
    ///
    /// # Errors
    /// `NotFound`, and those of the store.
    pub async fn get(&self, user: &UserId, session: SessionId) -> Result<SessionSummary, SessionsError> {
        let summary = match self.0.parts.store.read_summary(session).await {
            // What is wrong with it is for its user to know.
            Err(StoreError::Corrupt(_)) if !self.lists(user, session).await? => None,
            summary => summary?,
        };
        summary.filter(|s| &s.user_id == user).ok_or(SessionsError::NotFound(session))
    }

    /// Whether a session is in the user's list: how it is known whose it is when it cannot be read.
    async fn lists(&self, user: &UserId, session: SessionId) -> Result<bool, SessionsError> {
        let mut after = None;
        loop {
            let page = self.list(user, after, 256).await?;
            if page.iter().any(|listed| listed.session_id == session) {
                return Ok(true);
            }
            let Some(last) = page.last() else { return Ok(false) };
            after = Some(ListCursor { updated_at: last.updated_at, session_id: last.session_id });
        }
    }

    /// The whole projection of a session.
    ///
    /// # Errors
    /// `NotFound`, and those of the store.
    pub async fn state(&self, user: &UserId, session: SessionId) -> Result<SessionState, SessionsError> {
        self.get(user, session).await?;
        Ok(load_state(self.0.parts.store.as_ref(), session).await?.state)
    }

    /// A reader of the session's log, from after the event `after` on.
    ///
    /// # Errors
    /// `NotFound`, and those of the store.
    pub async fn watch(&self, user: &UserId, session: SessionId, after: u64) -> Result<EventCursor, SessionsError> {
        self.cursor(Some(user), session, after).await
    }

    /// A reader for a user, or for whoever has sent a command to the session.
    pub(super) async fn cursor(
        &self,
        user: Option<&UserId>,
        session: SessionId,
        after: u64,
    ) -> Result<EventCursor, SessionsError> {
        // The feed before the summary: what is committed in between rings the feed.
        let feed = self.0.registry.feed(session);
        self.0.followers.follow(session, &feed);
        let summary = match user {
            Some(user) => self.get(user, session).await?,
            None => self.0.parts.store.read_summary(session).await?.ok_or(SessionsError::NotFound(session))?,
        };
        feed.observe(summary.last_seq);
        Ok(EventCursor::new(self.0.parts.store.clone(), session, feed, after))
    }

    /// At most `limit` bytes of the whole output of a tool call, from `offset` on.
    ///
    /// # Errors
    /// `NotFound`, `OutputNotFound`, and those of the store.
    pub async fn output(
        &self,
        user: &UserId,
        session: SessionId,
        call: &ToolCallId,
        offset: u64,
        limit: usize,
    ) -> Result<OutputPart, SessionsError> {
        self.get(user, session).await?;
        let store = self.0.parts.store.as_ref();
        if let Some(part) = store.read_output(session, call, offset, limit).await? {
            return Ok(part);
        }
        // What was not shortened is in the log whole.
        let state = load_state(store, session).await?.state;
        let of_call = |message: &Arc<ChatMessage>| match message.as_ref() {
            ChatMessage::Tool(tool) if &tool.tool_call_id == call => Some(tool.content.clone()),
            _ => None,
        };
        let output = state.messages.iter().rev().find_map(of_call);
        let output = output.ok_or_else(|| SessionsError::OutputNotFound(call.clone()))?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(output.len());
        let end = start.saturating_add(limit).min(output.len());
        Ok(OutputPart { bytes: output.as_bytes()[start..end].to_vec(), total: output.len() as u64 })
    }

    /// The seq of the oldest event that is kept.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn oldest_seq(&self, session: SessionId) -> Result<u64, SessionsError> {
        Ok(self.0.parts.store.read_events(session, 0, 1).await?.oldest_seq)
    }
}
