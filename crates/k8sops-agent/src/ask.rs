//! Questions of an MCP server in the middle of a call: put to the user by an event, answered by a command.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{Run, RunLog};
use k8sops_core::{EventBody, InputAction, InputId, InputRequested, Timestamp, ToolCallId};
use k8sops_tools::{ElicitationAnswer, ElicitationForm, ElicitationHandler, ElicitationRequest};

/// Asks the user of the run that a call belongs to.
pub(super) struct UserAsker {
    log: Arc<dyn RunLog>,
    call: ToolCallId,
    server: String,
    ttl: std::time::Duration,
    halt: CancellationToken,
}

impl UserAsker {
    pub(super) fn new(run: &Run, call: ToolCallId, server: String) -> Self {
        Self { log: run.log.clone(), call, server, ttl: run.limits.approval_ttl, halt: run.halt.clone() }
    }
}

#[async_trait]
impl ElicitationHandler for UserAsker {
    async fn handle_elicitation(&self, question: ElicitationRequest) -> ElicitationAnswer {
        let input_id = InputId::new();
        let (schema, url) = match question.form {
            ElicitationForm::Fields(schema) => (Some(schema), None),
            ElicitationForm::Page { url } => (None, Some(url)),
        };
        let request = InputRequested {
            input_id,
            tool_call_id: self.call.clone(),
            server: self.server.clone(),
            message: question.message,
            schema,
            url,
            expires_at: Timestamp::now().plus(self.ttl),
        };
        let mut changes = self.log.changes();
        if self.log.append(vec![EventBody::InputRequested(request)]).await.is_err() {
            return ElicitationAnswer::Cancel;
        }
        loop {
            changes.mark_unchanged();
            let view = self.log.view();
            let calls = view.run.iter().flat_map(|run| &run.calls);
            let mut inputs = calls.flat_map(|call| &call.inputs).filter(|i| i.requested.input_id == input_id);
            match inputs.next().map(|input| &input.resolved) {
                Some(Some(resolved)) => {
                    return match resolved.action {
                        InputAction::Accept => ElicitationAnswer::Accept(resolved.content.clone().unwrap_or_default()),
                        InputAction::Decline => ElicitationAnswer::Decline,
                        InputAction::Cancel => ElicitationAnswer::Cancel,
                    };
                }
                Some(None) => {}
                // The call has ended meanwhile.
                None => return ElicitationAnswer::Cancel,
            }
            tokio::select! {
                next = changes.changed() => if next.is_err() { return ElicitationAnswer::Cancel },
                // A call ends before a stop does, and this one cannot without an answer.
                () = self.halt.cancelled() => return ElicitationAnswer::Cancel,
            }
        }
    }
}
