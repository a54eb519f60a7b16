//! From a client's thread to a session, without a table.
//!
//! The id of the session is a digest of user, door and thread, so that it is the same on every replica and after a restart. A
//! thread that is the id of one of the user's sessions is that session.

use k8sops_core::{SessionId, SessionOrigin, UserId};
use sha2::{Digest, Sha256};

use super::client_door::ClientDoor;
use crate::{
    api::{problem::ProblemDetails, state::ApiState},
    runtime::{NewSession, SessionOpening, SessionsError},
};

/// The longest name of a thread, in bytes.
const MAX_THREAD_BYTES: usize = 512;

/// The session of a thread, and whether it was created now.
#[derive(Debug, Clone, Copy)]
pub(super) struct ThreadSession {
    pub(super) session: SessionId,
    pub(super) opening: SessionOpening,
}

/// Opens the session of a thread, or creates it.
pub(super) async fn open_thread(
    state: &ApiState,
    user: &UserId,
    door: ClientDoor,
    thread: &str,
) -> Result<ThreadSession, ProblemDetails> {
    if let Some(session) = find_thread(state, user, door, thread).await? {
        return Ok(ThreadSession { session, opening: SessionOpening::Existing });
    }
    let session = thread_session_id(user, door, thread);
    let (_, opening) = state.sessions.open_or_create_session(user, session, new_session(state)).await?;
    Ok(ThreadSession { session, opening })
}

/// Returns a session with the default settings and no title.
pub(super) fn new_session(state: &ApiState) -> NewSession {
    NewSession { title: None, settings: state.default_settings.load().as_ref().clone(), origin: SessionOrigin::User }
}

/// Finds the session of a thread, for requests that send no message: they must not make room for a session that stays empty.
pub(super) async fn find_thread(
    state: &ApiState,
    user: &UserId,
    door: ClientDoor,
    thread: &str,
) -> Result<Option<SessionId>, ProblemDetails> {
    if thread.len() > MAX_THREAD_BYTES {
        return Err(ProblemDetails::invalid(format!("the thread id is longer than {MAX_THREAD_BYTES} bytes")));
    }
    for session in thread.parse().ok().into_iter().chain([thread_session_id(user, door, thread)]) {
        match state.sessions.get_session(user, session).await {
            Ok(_) => return Ok(Some(session)),
            Err(SessionsError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// Returns the id of the session of a thread.
pub(super) fn thread_session_id(user: &UserId, door: ClientDoor, thread: &str) -> SessionId {
    let mut digest = Sha256::new();
    // A user id has no line end, so that no two triples are the same bytes.
    for part in [user.as_str(), door.name(), thread] {
        digest.update(part.as_bytes());
        digest.update(b"\n");
    }
    let mut id = [0; 16];
    id.copy_from_slice(&digest.finalize()[..16]);
    SessionId::from_digest(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_is_one_session_of_one_user_and_door() {
        let [anna, ben]: [UserId; 2] = ["anna", "ben"].map(|user| user.parse().unwrap());
        let id = thread_session_id(&anna, ClientDoor::OpenAi, "chat-1");
        // Stored sessions depend on it.
        assert_eq!(id.to_string(), "cb92b6ae-54d6-8158-8440-d147e1fd598a");
        for other in [
            thread_session_id(&ben, ClientDoor::OpenAi, "chat-1"),
            thread_session_id(&anna, ClientDoor::Native, "chat-1"),
            thread_session_id(&anna, ClientDoor::OpenAi, "chat-2"),
        ] {
            assert_ne!(id, other);
        }
    }
}
