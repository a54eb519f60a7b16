//! The run that a queued message waits behind, as long as its own run has not begun.

use k8sops_core::{EventBody, OpenRun, RunId, SessionEvent, SessionState};

use super::waiting_interactions::{InteractionId, WaitingInteractions};

/// What the run before another one waits for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PrecedingWait {
    pub(super) run_id: RunId,
    pub(super) waiting: WaitingInteractions,
}

/// The run before one that has not begun.
#[derive(Debug, Default)]
pub(super) struct PrecedingRun {
    /// The run in progress; `None` between two runs.
    run: Option<OpenRun>,
    /// The events up to this seq are in `run`.
    known_seq: u64,
    /// What was said to be waited for.
    told: Vec<InteractionId>,
}

impl PrecedingRun {
    /// The run that is in progress in a session.
    pub(super) fn in_session(state: SessionState) -> Self {
        Self { known_seq: state.last_seq(), run: state.run, told: Vec::new() }
    }

    /// Applies an event of the session. Returns `None` once the run `behind` has begun.
    pub(super) fn after_event(mut self, event: &SessionEvent, behind: RunId) -> Option<Self> {
        let Some(run_id) = event.run_id else { return Some(self) };
        if run_id == behind {
            return None;
        }
        if event.seq <= self.known_seq {
            return Some(self);
        }
        match (&event.body, &mut self.run) {
            (EventBody::RunStarted(started), run) => *run = Some(OpenRun::from_started(run_id, started, event.ts)),
            (EventBody::RunFinished(_) | EventBody::RunFailed(_), run) => *run = None,
            (_, Some(run)) if run.run_id == run_id => run.follow_event(event),
            _ => {}
        }
        Some(self)
    }

    /// Returns what the run waits for, unless it was returned before.
    pub(super) fn take_new_wait(&mut self) -> Option<PrecedingWait> {
        let run = self.run.as_ref().filter(|run| run.is_blocked_on_user())?;
        let waiting = WaitingInteractions::from_run(run);
        let ids: Vec<InteractionId> = waiting.ids().collect();
        if ids.is_empty() || ids == self.told {
            return None;
        }
        self.told = ids;
        Some(PrecedingWait { run_id: run.run_id, waiting })
    }
}
