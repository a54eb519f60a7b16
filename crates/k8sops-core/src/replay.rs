//! Loading a session from its log: the newest checkpoint and the events after it.

use super::{SessionId, SessionLog, SessionState, StoreError};

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
pub async fn load_state(log: &dyn SessionLog, session: SessionId) -> Result<LoadedSession, StoreError> {
    let mut state = log.read_checkpoint(session).await?;
    let mut replayed = 0;
    loop {
        let after = state.as_ref().map_or(0, SessionState::last_seq);
        let page = log.read_events(session, after, READ_PAGE).await?;
        if page.events.first().is_some_and(|first| first.seq != after + 1) {
            // The log was cut back to a newer checkpoint between the two reads.
            state = log.read_checkpoint(session).await?;
            if state.as_ref().map_or(0, SessionState::last_seq) <= after {
                return Err(StoreError::Corrupt(
                    format!("the log of session {session} has a gap after seq {after}").into(),
                ));
            }
            replayed = 0;
            continue;
        }
        if page.events.is_empty() && page.last_seq > after {
            return Err(StoreError::Corrupt(
                format!("the log of session {session} ends after seq {after}, not {}", page.last_seq).into(),
            ));
        }
        replayed += page.events.iter().map(|event| event.weight()).sum::<u64>();
        state = SessionState::fold(state, page.events.iter().map(AsRef::as_ref));
        match state {
            None => {
                return Err(StoreError::Corrupt(
                    format!("session {session} does not begin with session_created").into(),
                ));
            }
            Some(state) if state.last_seq() >= page.last_seq => return Ok(LoadedSession { state, replayed }),
            Some(_) => {}
        }
    }
}
