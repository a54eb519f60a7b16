//! How many runs this process has, and whether it takes on one more. Who comes when there are too many is told so at once:
//! all runs becoming slow together would help nobody.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::SessionsError;
use k8sops_core::{SessionId, UserId};

/// What there is room for.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// `MAX_SESSIONS` of one user.
    pub sessions_per_user: usize,
    /// `K8SOPS_MAX_RUNS`: runs in this process at a time.
    pub runs: usize,
    /// `K8SOPS_MAX_RUNS_PER_USER`: of them, those of one user.
    pub runs_per_user: usize,
}

/// The sessions that have a run, or are about to begin one, each with its user.
#[derive(Debug, Default)]
pub(super) struct Load {
    // A plain mutex: held for a look-up or a count over the runs there is room for, never across an await.
    busy: Mutex<HashMap<SessionId, UserId>>,
}

impl Load {
    /// Makes room for a run of a session that has none. True: it was made by this call.
    ///
    /// # Errors
    /// `TooManyRuns`, `Overloaded`.
    pub(super) fn claim(&self, room: &Room, session: SessionId, user: &UserId) -> Result<bool, SessionsError> {
        let mut busy = self.lock();
        if busy.contains_key(&session) {
            return Ok(false);
        }
        if busy.values().filter(|of| *of == user).count() >= room.runs_per_user {
            return Err(SessionsError::TooManyRuns(room.runs_per_user));
        }
        if busy.len() >= room.runs {
            return Err(SessionsError::Overloaded(room.runs));
        }
        busy.insert(session, user.clone());
        Ok(true)
    }

    /// A run begins, or goes on: one that was accepted is not turned away.
    pub(super) fn begin(&self, session: SessionId, user: &UserId) {
        self.lock().entry(session).or_insert_with(|| user.clone());
    }

    /// The session has no run and nothing that waits for one, as far as this process is concerned.
    pub(super) fn end(&self, session: SessionId) {
        self.lock().remove(&session);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, UserId>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_a_share_and_all_together_have_a_limit() {
        let (load, room) = (Load::default(), Room { sessions_per_user: 9, runs: 3, runs_per_user: 2 });
        let [anna, ben]: [UserId; 2] = ["anna", "ben"].map(|user| user.parse().unwrap());
        let ids: Vec<SessionId> = (0..6).map(|_| SessionId::new()).collect();
        assert!(load.claim(&room, ids[0], &anna).unwrap() && load.claim(&room, ids[1], &anna).unwrap());
        assert!(!load.claim(&room, ids[0], &anna).unwrap(), "its place is there already");
        assert!(matches!(load.claim(&room, ids[2], &anna), Err(SessionsError::TooManyRuns(2))));
        assert!(load.claim(&room, ids[3], &ben).unwrap());
        assert!(matches!(load.claim(&room, ids[4], &ben), Err(SessionsError::Overloaded(3))));
        // What was accepted by another process goes on here.
        load.begin(ids[5], &ben);
        load.end(ids[0]);
        assert!(matches!(load.claim(&room, ids[0], &anna), Err(SessionsError::Overloaded(3))));
        // Who has more than there is room for now keeps what there is.
        let less = Room { runs: 1, ..room };
        assert!(matches!(load.claim(&less, ids[0], &anna), Err(SessionsError::Overloaded(1))));
        load.end(ids[5]);
        assert!(load.claim(&room, ids[0], &anna).unwrap());
    }
}
