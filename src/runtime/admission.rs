//! Admission control: how many runs this process has, and whether it accepts one more. Requests over the limit are
//! rejected immediately, because overload would slow down all runs.

use std::collections::HashMap;

use parking_lot::{Mutex, MutexGuard};

use super::SessionsError;
use k8sops_core::{SessionId, UserId};

/// Upper bounds of sessions and runs.
#[derive(Debug, Clone, Copy)]
pub struct CapacityLimits {
    /// `MAX_SESSIONS` of one user.
    pub sessions_per_user: usize,
    /// `K8SOPS_MAX_RUNS`: concurrent runs in this process.
    pub runs: usize,
    /// `K8SOPS_MAX_RUNS_PER_USER`: concurrent runs of one user in this process.
    pub runs_per_user: usize,
}

/// Whether a command reserved capacity for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunAdmission {
    /// This call reserved it; it must be released if the command is not accepted.
    Reserved,
    /// The session had capacity before, or the command needs none.
    AlreadyReserved,
}

/// The sessions with a run, or with a message that is about to start one, each with its user.
#[derive(Debug, Default)]
pub(super) struct AdmissionControl {
    // A synchronous mutex: held for a lookup or a count over the runs, never across an await.
    busy: Mutex<HashMap<SessionId, UserId>>,
}

impl AdmissionControl {
    /// Reserves capacity for a run of a session.
    ///
    /// # Errors
    /// `TooManyRuns`, `Overloaded`.
    pub(super) fn reserve(
        &self,
        limits: &CapacityLimits,
        session: SessionId,
        user: &UserId,
    ) -> Result<RunAdmission, SessionsError> {
        let mut busy = self.lock();
        if busy.contains_key(&session) {
            return Ok(RunAdmission::AlreadyReserved);
        }
        if busy.values().filter(|of| *of == user).count() >= limits.runs_per_user {
            return Err(SessionsError::TooManyRuns(limits.runs_per_user));
        }
        if busy.len() >= limits.runs {
            return Err(SessionsError::Overloaded(limits.runs));
        }
        busy.insert(session, user.clone());
        Ok(RunAdmission::Reserved)
    }

    /// Marks a session as running. An accepted run is never rejected.
    pub(super) fn mark_running(&self, session: SessionId, user: &UserId) {
        self.lock().entry(session).or_insert_with(|| user.clone());
    }

    /// Releases the capacity of a session that has neither a run nor a message that would start one.
    pub(super) fn release(&self, session: SessionId) {
        self.lock().remove(&session);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, UserId>> {
        self.busy.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_limited_per_user_and_in_total() {
        let admission = AdmissionControl::default();
        let limits = CapacityLimits { sessions_per_user: 9, runs: 3, runs_per_user: 2 };
        let [anna, ben]: [UserId; 2] = ["anna", "ben"].map(|user| user.parse().unwrap());
        let ids: Vec<SessionId> = (0..6).map(|_| SessionId::new()).collect();
        for id in &ids[..2] {
            assert_eq!(admission.reserve(&limits, *id, &anna).unwrap(), RunAdmission::Reserved);
        }
        assert_eq!(admission.reserve(&limits, ids[0], &anna).unwrap(), RunAdmission::AlreadyReserved);
        assert!(matches!(admission.reserve(&limits, ids[2], &anna), Err(SessionsError::TooManyRuns(2))));
        assert_eq!(admission.reserve(&limits, ids[3], &ben).unwrap(), RunAdmission::Reserved);
        assert!(matches!(admission.reserve(&limits, ids[4], &ben), Err(SessionsError::Overloaded(3))));
        // A run that another process accepted is resumed in spite of the limit.
        admission.mark_running(ids[5], &ben);
        admission.release(ids[0]);
        assert!(matches!(admission.reserve(&limits, ids[0], &anna), Err(SessionsError::Overloaded(3))));
        // Lower limits end no run in progress.
        let less = CapacityLimits { runs: 1, ..limits };
        assert!(matches!(admission.reserve(&less, ids[0], &anna), Err(SessionsError::Overloaded(1))));
        admission.release(ids[5]);
        assert_eq!(admission.reserve(&limits, ids[0], &anna).unwrap(), RunAdmission::Reserved);
    }
}
