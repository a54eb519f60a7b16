//! `/v1/inputs` and `/v1/sessions/{session_id}/inputs/{input_id}`: lists and answers questions that MCP servers ask during a tool call.

use actix_web::{get, post, web};
use k8sops_core::{EventBody, InputId, InputRequested, InputResolved, RunId, SessionId};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    caller::{Caller, CanWrite},
    commands::{AnswerInput, input_command},
    error_responses::document_errors,
    extractors::{IdempotencyKey, JsonBody, SessionPath},
    problem::ProblemDetails,
    state::ApiState,
};
use crate::runtime::SessionsError;

document_errors!(ListInputsErrors: StoreUnavailable);
document_errors!(
    AnswerInputErrors: InvalidJson, InvalidRequest, SessionNotFound, SessionDamaged, InputNotFound, InputClosed,
    DoesNotFit, PayloadTooLarge, CommandIdReused, InboxFull, StoreUnavailable, Stopping, Pending
);

/// Questions that wait for an answer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InputList {
    /// The questions, sorted by expiry.
    inputs: Vec<ListedInput>,
}

/// A question that waits for an answer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PendingInput)]
struct ListedInput {
    /// The session.
    session_id: SessionId,
    /// The run that waits for the answer.
    run_id: RunId,
    #[serde(flatten)]
    request: InputRequested,
}

/// Lists the questions of MCP servers in the caller's sessions that wait for an answer.
///
/// At most 1000 sessions are considered, those whose questions expire first.
#[utoipa::path(
    operation_id = "list_inputs", tag = "approvals",
    responses((status = 200, description = "The questions", body = InputList), ListInputsErrors)
)]
#[get("/inputs")]
pub(super) async fn list_inputs(
    state: web::Data<ApiState>,
    caller: Caller,
) -> Result<web::Json<InputList>, ProblemDetails> {
    let pending = state.sessions.list_pending_inputs(&caller.user).await?;
    let inputs = pending.into_iter().map(|input| ListedInput {
        session_id: input.session,
        run_id: input.run,
        request: input.asked,
    });
    Ok(web::Json(InputList { inputs: inputs.collect() }))
}

/// Answers a question of an MCP server.
#[utoipa::path(
    operation_id = "answer_input", tag = "approvals",
    params(
        ("session_id" = SessionId, Path, description = "The session"),
        ("input_id" = InputId, Path, description = "The id from `input_requested`"),
        ("idempotency-key" = Option<String>, Header, description = "Requests with the same key are executed once"),
    ),
    request_body = AnswerInput,
    responses((status = 200, description = "The answer as it was logged", body = InputResolved), AnswerInputErrors)
)]
#[post("/sessions/{session_id}/inputs/{input_id}")]
pub(super) async fn answer_input(
    state: web::Data<ApiState>,
    caller: Caller<CanWrite>,
    session: SessionPath,
    path: web::Path<(String, String)>,
    key: IdempotencyKey,
    body: JsonBody<AnswerInput>,
) -> Result<web::Json<InputResolved>, ProblemDetails> {
    let input_id: InputId = path.1.parse()?;
    let command_id = key.into_command_id();
    let command = input_command(&caller.user, command_id.clone(), input_id, body.0)?;
    session.user_token.store_for_session(&state, &caller.user, session.session_id).await?;
    let event = state
        .sessions
        .apply_command(session.session_id, command, |event| match &event.body {
            EventBody::InputResolved(e) => e.input_id == input_id,
            // If the run ends first, the question will never be resolved.
            body => body.ends_run(),
        })
        .await?;
    match &event.body {
        EventBody::InputResolved(e) if e.command_id.as_ref() == Some(&command_id) => Ok(web::Json(e.clone())),
        _ => Err(SessionsError::InputClosed(input_id).into()),
    }
}
