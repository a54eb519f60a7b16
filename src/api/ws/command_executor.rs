//! Executes the commands of a WebSocket.

use std::sync::Arc;

use actix_web::web;
use k8sops_core::{CommandId, CommandReceipt, RequestContext, SessionId};
use k8sops_telemetry::{request_id, spans};
use serde_json::Value;
use tracing::Instrument as _;

use super::frames::{ClientFrame, CommandReply, ParsedFrame, RejectedFrame, parse_frame};
use crate::{
    api::{
        caller::{Caller, CanApprove, CanWrite},
        commands::{
            approval_command, cancel_command, feedback_command, input_command, message_command, settings_command,
        },
        problem::ProblemDetails,
        state::ApiState,
    },
    auth::CallerIdentity,
};

/// Executes the commands of one connection. It is separate from what sends events, which does not wait for a command.
pub(super) struct CommandExecutor {
    pub(super) state: web::Data<ApiState>,
    pub(super) caller: CallerIdentity,
    pub(super) session: SessionId,
    /// The handshake request. All commands of the connection belong to it.
    pub(super) context: RequestContext,
}

impl CommandExecutor {
    /// Executes a text frame and returns the reply to it.
    pub(super) async fn execute_frame(self: Arc<Self>, text: String) -> CommandReply {
        let ParsedFrame { command_id, frame } = match parse_frame(&text) {
            Ok(parsed) => parsed,
            Err(rejected) => {
                let RejectedFrame { command_id, problem } = *rejected;
                return self.reject(command_id, problem);
            }
        };
        let id = command_id.to_string();
        let span = spans::command_span(&self.context, self.session);
        let request = request_id::accept_or_generate(self.context.request_id.as_deref());
        match request_id::scope(request, self.submit_command(command_id, frame).instrument(span)).await {
            Ok(receipt) => CommandReply::accepted(receipt),
            Err(problem) => CommandReply::rejected(Value::String(id), problem),
        }
    }

    /// Returns the reply to an invalid frame, which counts as a request.
    pub(super) fn reject(&self, command_id: Value, problem: ProblemDetails) -> CommandReply {
        let over_quota = self.state.quota.count_request(&self.caller.user).err();
        CommandReply::rejected(command_id, over_quota.unwrap_or(problem))
    }

    async fn submit_command(
        &self,
        command_id: CommandId,
        frame: ClientFrame,
    ) -> Result<CommandReceipt, ProblemDetails> {
        let user = &self.caller.user;
        self.state.quota.count_request(user)?;
        match &frame {
            ClientFrame::Resolve(..) => drop(Caller::<CanApprove>::new(self.caller.clone())?),
            _ => drop(Caller::<CanWrite>::new(self.caller.clone())?),
        }
        let command = match frame {
            ClientFrame::Message(message) => message_command(user, command_id, message, &self.state.server)?,
            ClientFrame::Cancel => cancel_command(user, command_id),
            ClientFrame::Resolve(approval_id, answer) => {
                approval_command(&self.caller, command_id, approval_id, answer)?
            }
            ClientFrame::Answer(input_id, answer) => input_command(user, command_id, input_id, answer)?,
            ClientFrame::Settings(patch) => settings_command(user, command_id, patch)?,
            ClientFrame::Feedback(message_id, feedback) => {
                feedback_command(user, command_id, message_id, feedback.checked()?)
            }
        };
        Ok(self.state.sessions.submit_command(self.session, command).await?)
    }
}
