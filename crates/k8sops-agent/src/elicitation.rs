//! Elicitation: a question of an MCP server during a call becomes an event, and a command of the user answers it.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::{run::Run, run_log::RunLog};
use k8sops_core::{EventBody, InputAction, InputId, InputRequested, Timestamp, ToolCallId};
use k8sops_tools::{ElicitationAnswer, ElicitationForm, ElicitationHandler, ElicitationRequest};

/// Puts the questions of one tool call to the user of its run.
pub(crate) struct UserElicitation {
    log: Arc<dyn RunLog>,
    call: ToolCallId,
    server: String,
    ttl: std::time::Duration,
    halt: CancellationToken,
}

impl UserElicitation {
    pub(crate) fn new(run: &Run, call: ToolCallId, server: String) -> Self {
        Self { log: run.log.clone(), call, server, ttl: run.limits.approval_ttl, halt: run.halt.clone() }
    }
}

#[async_trait]
impl ElicitationHandler for UserElicitation {
    async fn handle_elicitation(&self, request: ElicitationRequest) -> ElicitationAnswer {
        let input_id = InputId::new();
        let (schema, url) = match request.form {
            ElicitationForm::Fields(schema) => (Some(schema), None),
            ElicitationForm::Page { url } => (None, Some(url)),
        };
        let event = InputRequested {
            input_id,
            tool_call_id: self.call.clone(),
            server: self.server.clone(),
            message: request.message,
            schema,
            url,
            expires_at: Timestamp::now().saturating_add(self.ttl),
        };
        let mut changes = self.log.subscribe();
        if self.log.append_events(vec![EventBody::InputRequested(event)]).await.is_err() {
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
                // The call has ended in the meantime.
                None => return ElicitationAnswer::Cancel,
            }
            tokio::select! {
                next = changes.changed() => if next.is_err() { return ElicitationAnswer::Cancel },
                // A shutdown waits for calls, and this call cannot end without an answer.
                () = self.halt.cancelled() => return ElicitationAnswer::Cancel,
            }
        }
    }
}
