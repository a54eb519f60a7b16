//! `/v1/sessions/{session_id}/inputs/{input_id}`: answer a question that an MCP server asks in the middle of a call.

use actix_web::{post, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    ApiState, ProblemDetails,
    extract::{Body, Caller, CanWrite, IdempotencyKey, SessionPath, fingerprint},
    problem::document_errors,
};
use crate::runtime::SessionsError;
use k8sops_core::{
    CommandBody, CommandId, EventBody, InputAction, InputId, InputResolved, SessionCommand, SessionId, UserId,
};

document_errors!(
    AnswerErrors: InvalidJson, InvalidRequest, SessionNotFound, SessionDamaged, InputNotFound, InputClosed, DoesNotFit,
    PayloadTooLarge, CommandIdReused, InboxFull, StoreUnavailable, Stopping, Pending
);

/// An answer to a question.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerInput {
    /// `accept`, `decline` or `cancel`.
    pub(super) action: InputAction,
    /// The values, which fit the question's `schema`; with `accept` only.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(super) content: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Answers a question of an MCP server.
#[utoipa::path(
    operation_id = "answer_input", tag = "approvals",
    params(
        ("session_id" = SessionId, Path, description = "The session"),
        ("input_id" = InputId, Path, description = "From `input_requested`"),
        ("idempotency-key" = Option<String>, Header, description = "The same key is the same command"),
    ),
    request_body = AnswerInput,
    responses((status = 200, description = "The answer as it was logged", body = InputResolved), AnswerErrors)
)]
#[post("/sessions/{session_id}/inputs/{input_id}")]
pub(super) async fn answer_input(
    api: web::Data<ApiState>,
    caller: Caller<CanWrite>,
    session: SessionPath,
    path: web::Path<(String, String)>,
    key: IdempotencyKey,
    body: Body<AnswerInput>,
) -> Result<web::Json<InputResolved>, ProblemDetails> {
    let input_id: InputId = path.1.parse()?;
    let command_id = key.0.unwrap_or_else(CommandId::generate);
    let command = command(&caller.user, command_id.clone(), input_id, body.0)?;
    session.1.remember(&api, &caller.user, session.0).await?;
    let event = api
        .sessions
        .apply_command(session.0, command, |event| match &event.body {
            EventBody::InputResolved(e) => e.input_id == input_id,
            // The run ended first, so that nothing will answer.
            body => body.ends_run(),
        })
        .await?;
    match &event.body {
        EventBody::InputResolved(e) if e.command_id.as_ref() == Some(&command_id) => Ok(web::Json(e.clone())),
        _ => Err(SessionsError::InputClosed(input_id).into()),
    }
}

/// The command for an answer.
pub(super) fn command(
    user: &UserId,
    command_id: CommandId,
    input_id: InputId,
    answer: AnswerInput,
) -> Result<SessionCommand, ProblemDetails> {
    if answer.action != InputAction::Accept && answer.content.is_some() {
        return Err(ProblemDetails::invalid("content goes with \"action\": \"accept\" only"));
    }
    let fingerprint = fingerprint(&("answer", input_id, &answer));
    let body = CommandBody::Answer { input_id, action: answer.action, content: answer.content };
    Ok(SessionCommand { command_id, fingerprint, by: user.clone(), body })
}
