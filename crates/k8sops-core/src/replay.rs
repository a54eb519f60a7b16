//! Loading a session from its log: the newest checkpoint and the events after it.

use crate::{
    event::{EventBody, SessionEvent, ToolEnd},
    ids::{SessionId, ToolCallId},
    lineage::{LogHead, LostBranch},
    message::ChatMessage,
    ports::{SessionLog, StoreError},
    state::SessionState,
};

/// How many events are read at once when a log is replayed.
pub const REPLAY_PAGE_SIZE: usize = 256;

/// A session as it was loaded from the store.
#[derive(Debug)]
pub struct LoadedSession {
    /// The state as of the newest event.
    pub state: SessionState,
    /// The position of that event.
    pub head: LogHead,
    /// The seq of the oldest event that is kept.
    pub oldest_seq: u64,
    /// What was reported of events that the store has lost, until the log says it.
    pub lost_branch: Option<LostBranch>,
    /// The size ([`SessionEvent::estimated_bytes`](crate::SessionEvent::estimated_bytes)) of the events after the
    /// checkpoint.
    pub replayed_bytes: u64,
}

/// Loads a session's state as of its newest event: the checkpoint and the events after it.
///
/// # Errors
/// `NotFound`, `Unavailable`, `Corrupt`.
pub async fn load_state(log: &dyn SessionLog, session: SessionId) -> Result<LoadedSession, StoreError> {
    load_state_before(log, session, |_| false).await
}

/// Loads a session's state as of the event before the first one after the checkpoint that `is_end` accepts.
///
/// # Errors
/// Those of [`load_state`].
pub(crate) async fn load_state_before(
    log: &dyn SessionLog,
    session: SessionId,
    is_end: impl Fn(&SessionEvent) -> bool,
) -> Result<LoadedSession, StoreError> {
    let corrupt = |found: String| Err(StoreError::Corrupt(format!("the log of session {session} {found}").into()));
    let mut state = log.read_checkpoint(session).await?;
    let mut replayed_bytes = 0;
    loop {
        let after = state.as_ref().map_or(0, SessionState::last_seq);
        let mut page = log.read_events(session, after, REPLAY_PAGE_SIZE).await?;
        if page.events.first().is_some_and(|first| !first.body.may_follow(after, first.seq)) {
            // The log was truncated to a newer checkpoint between the two reads.
            state = log.read_checkpoint(session).await?;
            if state.as_ref().map_or(0, SessionState::last_seq) <= after {
                return corrupt(format!("has a gap after seq {after}"));
            }
            replayed_bytes = 0;
            continue;
        }
        if page.events.is_empty() && page.last_seq > after {
            return corrupt(format!("ends after seq {after}, not {}", page.last_seq));
        }
        let end = page.events.iter().position(|event| is_end(event));
        if let Some(end) = end {
            page.events.truncate(end);
            page.lineage_after = None;
        }
        replayed_bytes += page.events.iter().map(|event| event.estimated_bytes()).sum::<u64>();
        state = SessionState::fold_events(state, page.events.iter().map(AsRef::as_ref));
        let is_whole = |state: &SessionState| end.is_some() || state.last_seq() >= page.last_seq;
        match state {
            None => return corrupt("does not begin with session_created".to_owned()),
            Some(state) if is_whole(&state) => {
                let lineage = page.end().lineage.filter(|_| end.is_none());
                return Ok(LoadedSession {
                    head: LogHead { seq: state.last_seq(), lineage },
                    state,
                    oldest_seq: page.oldest_seq,
                    lost_branch: page.lost_branch,
                    replayed_bytes,
                });
            }
            Some(_) => {}
        }
    }
}

/// Finds how a tool call of the conversation ended; `None` if the conversation has no such call.
///
/// # Errors
/// `NotFound`, `Unavailable`, `Corrupt`.
pub async fn find_tool_end(
    log: &dyn SessionLog,
    session: SessionId,
    call: &ToolCallId,
) -> Result<Option<ToolEnd>, StoreError> {
    let state = load_state(log, session).await?.state;
    let output = state.messages.iter().rev().find_map(|message| match message.as_ref() {
        ChatMessage::Tool(tool) if tool.tool_call_id == *call => Some(tool),
        _ => None,
    });
    let Some(output) = output else { return Ok(None) };
    let page = log.read_events(session, output.seq.saturating_sub(1), 1).await?;
    Ok(page.events.first().and_then(|event| match &event.body {
        EventBody::ToolEnd(end) if end.tool_call_id == *call => Some(end.clone()),
        _ => None,
    }))
}
