//! Pending approvals and questions of a session: their answers and their expiry.

use k8sops_core::{
    ApprovalDecision, ApprovalId, ApprovalResolved, CommandBody, EventAuthor, EventBody, EventDraft, InputAction,
    InputId, InputResolved, SessionCommand, ToolCallId,
};

use super::{
    inputs::{ActorTime, PendingInteraction},
    state::OwnedSession,
};
use crate::runtime::approvals::is_allowed_to_answer;

impl OwnedSession {
    /// Returns the event of an approval answer; `None` if it comes too late or the sender may not give it.
    pub(super) fn approval_answer_event(&self, command: &SessionCommand, now: ActorTime) -> Option<EventDraft> {
        let CommandBody::Resolve { approval_id, decision, arguments, comment, .. } = &command.body else { return None };
        // Checks authorization again: the API check may have run on another replica.
        if !is_allowed_to_answer(self.policy.approval_by, command, &self.facts.user) {
            return None;
        }
        self.facts
            .approvals
            .iter()
            .find(|asked| asked.id == *approval_id && asked.expires_at > now.wall && self.is_approval_pending(asked))?;
        let resolved = ApprovalResolved {
            approval_id: *approval_id,
            decision: *decision,
            arguments: arguments.clone(),
            by: EventAuthor::User(command.by.clone()),
            comment: comment.clone(),
            command_id: Some(command.command_id.clone()),
        };
        self.run_event(EventBody::ApprovalResolved(resolved), now)
    }

    /// Returns the event of an answer to a question; `None` if it comes too late.
    pub(super) fn input_answer_event(&self, command: &SessionCommand, now: ActorTime) -> Option<EventDraft> {
        let CommandBody::Answer { input_id, action, content } = &command.body else { return None };
        self.facts
            .questions
            .iter()
            .find(|asked| asked.id == *input_id && asked.expires_at > now.wall && self.is_question_pending(asked))?;
        let resolved = InputResolved {
            input_id: *input_id,
            action: *action,
            content: content.clone(),
            by: EventAuthor::User(command.by.clone()),
            command_id: Some(command.command_id.clone()),
        };
        self.run_event(EventBody::InputResolved(resolved), now)
    }

    /// Queues the expiry of approvals and questions that were not answered in time.
    pub(super) fn expire_interactions(&mut self, now: ActorTime) {
        let questions = self.facts.questions.iter();
        let questions = questions.filter(|asked| asked.expires_at <= now.wall && self.is_question_pending(asked));
        let approvals = self.facts.approvals.iter();
        let approvals = approvals.filter(|asked| asked.expires_at <= now.wall && self.is_approval_pending(asked));
        let bodies =
            questions.map(|asked| input_expired(asked.id)).chain(approvals.map(|asked| approval_expired(asked.id)));
        let expired: Vec<EventDraft> = bodies.filter_map(|body| self.run_event(body, now)).collect();
        self.queue.drafts.extend(expired);
    }

    fn run_event(&self, body: EventBody, now: ActorTime) -> Option<EventDraft> {
        self.facts.open_run.map(|run_id| EventDraft { ts: now.wall, run_id: Some(run_id), body })
    }

    /// Returns whether nothing that is queued answers an approval of the projection, or ends what waits for it.
    fn is_approval_pending(&self, asked: &PendingInteraction<ApprovalId>) -> bool {
        !self.queue.has_event(|body| match body {
            EventBody::ApprovalResolved(answer) => answer.approval_id == asked.id,
            body => ends_call(body, &asked.call),
        })
    }

    /// Returns whether nothing that is queued answers a question of the projection, or ends what waits for it.
    fn is_question_pending(&self, asked: &PendingInteraction<InputId>) -> bool {
        !self.queue.has_event(|body| match body {
            EventBody::InputResolved(answer) => answer.input_id == asked.id,
            body => ends_call(body, &asked.call),
        })
    }
}

/// Returns whether an event ends a call or its run.
fn ends_call(body: &EventBody, call: &ToolCallId) -> bool {
    body.ends_run() || matches!(body, EventBody::ToolEnd(end) if end.tool_call_id == *call)
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
