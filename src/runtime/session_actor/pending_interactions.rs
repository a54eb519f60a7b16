//! Pending approvals and questions of a session: their answers and their expiry.

use std::time::Duration;

use tokio::time::Instant;

use super::SessionActor;
use k8sops_core::{
    ApprovalDecision, ApprovalId, ApprovalResolved, CommandBody, EventAuthor, EventBody, EventDraft, InputAction,
    InputId, InputResolved, InteractionStatus, OpenRun, SessionCommand,
};

/// How often the wall clock is read while something can expire: timers stop while the machine is suspended.
const CLOCK_INTERVAL: Duration = Duration::from_secs(5);

impl SessionActor<'_> {
    /// Records until when approvals are pending, when that has changed.
    pub(super) async fn record_pending_approvals(&mut self) {
        let until = self.projection.read(|state| state.pending_approvals().map(|a| a.expires_at).max());
        if until != self.recorded_deadline {
            let (store, session) = (self.shared.dependencies.store.as_ref(), self.held.lease.session);
            if self.shared.pending_approvals.record_deadline(store, session, until).await {
                self.recorded_deadline = until;
            }
        }
    }

    /// Has pending approvals recorded once more, in case the store has lost the record.
    pub(super) fn record_approvals_again(&mut self) {
        if self.projection.read(|state| state.pending_approvals().next().is_some()) {
            self.recorded_deadline = None;
        }
    }

    /// Returns the event of an approval answer; `None` if it comes too late or the sender may not give it.
    pub(super) fn approval_answer_event(&self, command: &SessionCommand) -> Option<EventDraft> {
        let CommandBody::Resolve { approval_id, decision, arguments, comment, .. } = &command.body else { return None };
        let now = self.shared.dependencies.clock.now();
        let run_id = self.projection.read(|state| {
            // Checks authorization again: the API check may have run on another replica.
            if !self.shared.is_allowed_to_answer(command, &state.summary.user_id) {
                return None;
            }
            let status = state.run.as_ref()?.approval_status(*approval_id, now);
            let pending = status == Some(InteractionStatus::Pending);
            state.run.as_ref().filter(|_| pending && !self.writer.has_queued_answer(*approval_id)).map(|run| run.run_id)
        })?;
        let resolved = ApprovalResolved {
            approval_id: *approval_id,
            decision: *decision,
            arguments: arguments.clone(),
            by: EventAuthor::User(command.by.clone()),
            comment: comment.clone(),
            command_id: Some(command.command_id.clone()),
        };
        Some(EventDraft::in_run(run_id, EventBody::ApprovalResolved(resolved)))
    }

    /// Returns the event of an answer to a question; `None` if it comes too late.
    pub(super) fn input_answer_event(&self, command: &SessionCommand) -> Option<EventDraft> {
        let CommandBody::Answer { input_id, action, content } = &command.body else { return None };
        let now = self.shared.dependencies.clock.now();
        let run_id = self.projection.read(|state| {
            let status = state.run.as_ref()?.input_status(*input_id, now);
            let pending = status == Some(InteractionStatus::Pending);
            state
                .run
                .as_ref()
                .filter(|_| pending && !self.writer.has_queued_input_answer(*input_id))
                .map(|run| run.run_id)
        })?;
        let resolved = InputResolved {
            input_id: *input_id,
            action: *action,
            content: content.clone(),
            by: EventAuthor::User(command.by.clone()),
            command_id: Some(command.command_id.clone()),
        };
        Some(EventDraft::in_run(run_id, EventBody::InputResolved(resolved)))
    }

    /// When to look for approvals and questions that have expired.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        // The commit in flight may contain the answer.
        if self.writer.is_committing() {
            return None;
        }
        let expires_at = self.projection.read(|state| {
            let inputs = state.pending_inputs().map(|i| i.expires_at);
            state.pending_approvals().map(|a| a.expires_at).chain(inputs).min()
        })?;
        let left = expires_at.saturating_duration_since(self.shared.dependencies.clock.now());
        Some(Instant::now() + left.min(CLOCK_INTERVAL))
    }

    pub(super) fn expire_interactions(&mut self) {
        let now = self.shared.dependencies.clock.now();
        let expired = self.projection.read(|state| {
            let run: &OpenRun = state.run.as_ref()?;
            let approvals = state
                .pending_approvals()
                .filter(|a| a.expires_at <= now && !self.writer.has_queued_answer(a.approval_id))
                .map(|a| approval_expired(a.approval_id));
            let inputs = state
                .pending_inputs()
                .filter(|i| i.expires_at <= now && !self.writer.has_queued_input_answer(i.input_id))
                .map(|i| input_expired(i.input_id));
            Some(inputs.chain(approvals).map(|body| EventDraft::in_run(run.run_id, body)).collect::<Vec<_>>())
        });
        self.writer.queue_events(expired.unwrap_or_default());
    }
}

fn approval_expired(approval_id: ApprovalId) -> EventBody {
    EventBody::ApprovalResolved(ApprovalResolved {
        approval_id,
        decision: ApprovalDecision::Expired,
        arguments: None,
        by: EventAuthor::System,
        comment: None,
        command_id: None,
    })
}

fn input_expired(input_id: InputId) -> EventBody {
    let (action, by) = (InputAction::Cancel, EventAuthor::System);
    EventBody::InputResolved(InputResolved { input_id, action, content: None, by, command_id: None })
}
