//! Approvals and questions of a session that wait for an answer.

use tokio::time::Instant;

use super::Owner;
use k8sops_core::{
    ApprovalDecision, ApprovalId, ApprovalResolved, CommandBody, EventAuthor, EventBody, EventDraft, InputAction,
    InputId, InputResolved, OpenRun, SessionCommand, Timestamp,
};

impl Owner<'_> {
    /// Notes whether approvals wait, when that has changed.
    pub(super) async fn note_waiting(&mut self) {
        let until = self.projection.read(|state| state.pending_approvals().map(|a| a.expires_at).max());
        if until != self.noted {
            let (store, session) = (self.shared.parts.store.as_ref(), self.held.lease.session);
            if self.shared.waiting.note(store, session, until).await {
                self.noted = until;
            }
        }
    }

    /// What an answer to an approval has happen; `None` where it comes too late, or is not the sender's to give.
    pub(super) fn resolve(&self, command: &SessionCommand) -> Option<EventDraft> {
        let CommandBody::Resolve { approval_id, decision, arguments, comment, .. } = &command.body else { return None };
        let run_id = self.projection.read(|state| {
            // Whatever let it in: nobody says yes to what is another's to allow.
            if !self.shared.may_answer(command, &state.summary.user_id) {
                return None;
            }
            let pending = state.pending_approvals().any(|a| a.approval_id == *approval_id);
            state.run.as_ref().filter(|_| pending && !self.writer.answers(*approval_id)).map(|run| run.run_id)
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

    /// What an answer to a question has happen; `None` where it comes too late.
    pub(super) fn answer(&self, command: &SessionCommand) -> Option<EventDraft> {
        let CommandBody::Answer { input_id, action, content } = &command.body else { return None };
        let run_id = self.projection.read(|state| {
            let pending = state.pending_inputs().any(|i| i.input_id == *input_id);
            state.run.as_ref().filter(|_| pending && !self.writer.answers_input(*input_id)).map(|run| run.run_id)
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

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        // While a commit is in flight it may be the one that answers.
        if self.writer.in_flight() {
            return None;
        }
        let expires_at = self.projection.read(|state| {
            let inputs = state.pending_inputs().map(|i| i.expires_at);
            state.pending_approvals().map(|a| a.expires_at).chain(inputs).min()
        })?;
        Some(Instant::now() + expires_at.saturating_duration_since(Timestamp::now()))
    }

    pub(super) fn expire_questions(&mut self) {
        let now = Timestamp::now();
        let expired = self.projection.read(|state| {
            let run: &OpenRun = state.run.as_ref()?;
            let approvals = state
                .pending_approvals()
                .filter(|a| a.expires_at <= now && !self.writer.answers(a.approval_id))
                .map(|a| approval_expired(a.approval_id));
            let inputs = state
                .pending_inputs()
                .filter(|i| i.expires_at <= now && !self.writer.answers_input(i.input_id))
                .map(|i| input_expired(i.input_id));
            Some(inputs.chain(approvals).map(|body| EventDraft::in_run(run.run_id, body)).collect::<Vec<_>>())
        });
        self.writer.push(expired.unwrap_or_default());
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
