//! Loading a session from its log: the newest checkpoint and the events after it.

use std::sync::Arc;

use crate::{
    event::{EventBody, SessionEvent, ToolEnd},
    ids::{SessionId, ToolCallId},
    lineage::{LogHead, LostBranch},
    message::ChatMessage,
    ports::{BackendError, ReplayStart, SessionLog, StoreError},
    state::SessionState,
};

/// How many events are read at once when a log is replayed.
pub const REPLAY_PAGE_SIZE: usize = 256;

/// How many events or commands are always small together. A store may read more of them on connections that wait for one
/// another, so a reader that expects few asks for no more than this.
pub const SMALL_PAGE_SIZE: usize = 10;

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
    /// Each `tool_start` that was replayed.
    pub tool_starts: Vec<Arc<SessionEvent>>,
    /// Why the newest checkpoint cannot be read, if that is so. The state was replayed without it.
    pub damaged_checkpoint: Option<BackendError>,
}

/// Loads a session's state as of its newest event: the checkpoint and the events after it.
///
/// # Errors
/// `NotFound`, `Unavailable`, `Corrupt`.
pub async fn load_state(log: &dyn SessionLog, session: SessionId) -> Result<LoadedSession, StoreError> {
    let start = log.read_replay_start(session).await;
    replay_events(log, session, start_or_first_event(log, session, start).await?, |_| false).await
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
    // Not from a later state than the checkpoint: that may be after the end.
    let checkpoint = log.read_checkpoint(session).await;
    let start = checkpoint.map(|state| ReplayStart { state, ..ReplayStart::default() });
    replay_events(log, session, start_or_first_event(log, session, start).await?, is_end).await
}

/// The start of a replay. If it cannot be read, that is the first event of a log that is kept as a whole.
async fn start_or_first_event(
    log: &dyn SessionLog,
    session: SessionId,
    start: Result<ReplayStart, StoreError>,
) -> Result<ReplayStart, StoreError> {
    let error = match check_start(session, start) {
        Err(StoreError::Corrupt(error)) => error,
        start => return start,
    };
    if log.read_events(session, 0, 1).await?.oldest_seq > 1 {
        return Err(StoreError::Corrupt(BackendError::caused_by(missing_checkpoint(session), error)));
    }
    Ok(ReplayStart { damaged_checkpoint: Some(error), ..ReplayStart::default() })
}

fn check_start(session: SessionId, start: Result<ReplayStart, StoreError>) -> Result<ReplayStart, StoreError> {
    let start = start?;
    match &start.state {
        Some(state) if state.summary.session_id != session => {
            let found = format!("it is the checkpoint of session {}", state.summary.session_id);
            Err(StoreError::Corrupt(found.into()))
        }
        _ => Ok(start),
    }
}

/// What is wrong with a log without its beginning, and what to do.
fn missing_checkpoint(session: SessionId) -> String {
    format!(
        "session {session} has no readable checkpoint, and its log does not begin with its first event; restore the \
         session from a backup, or delete it"
    )
}

async fn replay_events(
    log: &dyn SessionLog,
    session: SessionId,
    start: ReplayStart,
    is_end: impl Fn(&SessionEvent) -> bool,
) -> Result<LoadedSession, StoreError> {
    let corrupt = |found: String| Err(StoreError::Corrupt(format!("the log of session {session} {found}").into()));
    let ReplayStart { mut state, mut replayed_bytes, mut damaged_checkpoint } = start;
    let mut tool_starts = Vec::new();
    loop {
        let after = state.as_ref().map_or(0, SessionState::last_seq);
        let mut page = log.read_events(session, after, REPLAY_PAGE_SIZE).await?;
        if after > page.last_seq {
            // A checkpoint is written together with the events before it.
            let error = format!("it is of seq {after}, and the log ends at {}", page.last_seq).into();
            let start = Err(StoreError::Corrupt(error));
            // The rest is boxed: it is rare, and the futures of all requests would reserve memory for it.
            let from_beginning = Box::pin(start_or_first_event(log, session, start));
            ReplayStart { state, replayed_bytes, damaged_checkpoint } = from_beginning.await?;
            continue;
        }
        if page.events.first().is_some_and(|first| !first.body.may_follow(after, first.seq)) {
            // The log was truncated to a newer checkpoint between the two reads.
            state = log.read_checkpoint(session).await?;
            if state.as_ref().map_or(0, SessionState::last_seq) <= after {
                if after == 0 {
                    return Err(StoreError::Corrupt(missing_checkpoint(session).into()));
                }
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
        let is_tool_start = |event: &&Arc<SessionEvent>| matches!(event.body, EventBody::ToolStart(_));
        tool_starts.extend(page.events.iter().filter(is_tool_start).cloned());
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
                    tool_starts,
                    damaged_checkpoint,
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;

    use super::*;
    use crate::{
        event::{EventAuthor, SessionCreated, SessionOrigin, SessionWarning},
        lineage::LogLineage,
        ports::{EventPage, LogCommit},
        settings::SessionSettings,
    };

    /// A log whose checkpoint cannot be read, or is gone.
    struct DamagedCheckpoint {
        events: Vec<Arc<SessionEvent>>,
        oldest_seq: u64,
        checkpoint: StoredCheckpoint,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum StoredCheckpoint {
        Gone,
        NoJson,
        OfAnotherSession,
        /// Of a seq that the log does not have.
        Ahead,
    }

    #[async_trait]
    impl SessionLog for DamagedCheckpoint {
        async fn create_session(&self, _: &SessionEvent) -> Result<(), StoreError> {
            unreachable!("nothing is written")
        }

        async fn commit_events(&self, _: LogCommit<'_>) -> Result<Option<LogLineage>, StoreError> {
            unreachable!("nothing is written")
        }

        async fn read_events(&self, _: SessionId, after: u64, limit: usize) -> Result<EventPage, StoreError> {
            let from = after.max(self.oldest_seq - 1);
            let events = self.events.iter().filter(|event| event.seq > from).take(limit).cloned().collect();
            let last_seq = self.events.len() as u64;
            Ok(EventPage { events, last_seq, oldest_seq: self.oldest_seq, ..EventPage::default() })
        }

        async fn read_checkpoint(&self, _: SessionId) -> Result<Option<SessionState>, StoreError> {
            let mut state = SessionState::fold_events(None, self.events.iter().map(AsRef::as_ref));
            let summary = state.as_mut().map(|state| &mut state.summary).expect("it has events");
            match self.checkpoint {
                StoredCheckpoint::Gone => return Ok(None),
                StoredCheckpoint::NoJson => return Err(StoreError::Corrupt("it is no JSON".into())),
                StoredCheckpoint::OfAnotherSession => summary.session_id = SessionId::new(),
                StoredCheckpoint::Ahead => summary.last_seq += 1,
            }
            Ok(state)
        }
    }

    #[tokio::test]
    async fn log_is_replayed_without_its_checkpoint_if_it_is_whole() {
        let session = SessionId::new();
        let created = SessionCreated {
            user_id: "anna".parse().unwrap(),
            title: None,
            settings: SessionSettings::for_model("p", "m"),
            by: EventAuthor::System,
            origin: SessionOrigin::User,
        };
        let warning = || EventBody::Warning(SessionWarning::new("note", "text"));
        let bodies = [EventBody::SessionCreated(created), warning(), warning()];
        let events: Vec<_> = (1..)
            .zip(bodies)
            .map(|(seq, body)| Arc::new(crate::EventDraft::new(body).into_event(session, seq)))
            .collect();
        let checkpoints = [
            StoredCheckpoint::Gone,
            StoredCheckpoint::NoJson,
            StoredCheckpoint::OfAnotherSession,
            StoredCheckpoint::Ahead,
        ];
        for (oldest_seq, checkpoint) in [1, 2].into_iter().flat_map(|oldest| checkpoints.map(|stored| (oldest, stored)))
        {
            let log = DamagedCheckpoint { events: events.clone(), oldest_seq, checkpoint };
            for loaded in [load_state(&log, session).await, load_state_before(&log, session, |_| false).await] {
                if oldest_seq == 1 {
                    let loaded = loaded.unwrap();
                    assert_eq!(
                        (loaded.state.last_seq(), loaded.damaged_checkpoint.is_some()),
                        (3, checkpoint != StoredCheckpoint::Gone)
                    );
                } else {
                    let error = loaded.unwrap_err();
                    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
                    assert!(error.to_string().contains("restore the session from a backup"), "{error}");
                }
            }
        }
    }
}
