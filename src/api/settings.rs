//! `/v1/sessions/{session_id}/settings`: the model of a session, its parameters, and whether memories are used.

use actix_web::{get, patch, web};
use k8sops_core::{SessionId, SessionSettings, SettingsPatch};

use super::{
    caller::{Caller, CanWrite},
    commands::settings_command,
    error_responses::document_errors,
    extractors::{IdempotencyKey, JsonBody, SessionPath},
    problem::ProblemDetails,
    state::ApiState,
};

document_errors!(GetSettingsErrors: InvalidRequest, SessionNotFound, SessionDamaged, StoreUnavailable);
document_errors!(
    UpdateSettingsErrors: InvalidJson, InvalidRequest, SessionNotFound, SessionDamaged, PayloadTooLarge, CommandIdReused,
    InboxFull, StoreUnavailable, Stopping, Pending
);

/// Returns the settings of a session.
#[utoipa::path(
    operation_id = "get_settings", tag = "sessions",
    params(("session_id" = SessionId, Path, description = "The session")),
    responses((status = 200, description = "The settings", body = SessionSettings), GetSettingsErrors)
)]
#[get("/sessions/{session_id}/settings")]
pub(super) async fn get_settings(
    state: web::Data<ApiState>,
    caller: Caller,
    session: SessionPath,
) -> Result<web::Json<SessionSettings>, ProblemDetails> {
    Ok(web::Json(state.sessions.get_session(&caller.user, session.session_id).await?.settings))
}

/// Changes settings of a session from the next run on.
///
/// Omitted fields are unchanged. `null` restores the default of `temperature`, `max_tokens`, `reasoning` and `memory`. A change
/// of the provider must include a model.
#[utoipa::path(
    operation_id = "update_settings", tag = "sessions",
    params(
        ("session_id" = SessionId, Path, description = "The session"),
        ("idempotency-key" = Option<String>, Header, description = "Requests with the same key are executed once"),
    ),
    request_body = SettingsPatch,
    responses((status = 200, description = "The changed settings", body = SessionSettings), UpdateSettingsErrors)
)]
#[patch("/sessions/{session_id}/settings")]
pub(super) async fn update_settings(
    state: web::Data<ApiState>,
    caller: Caller<CanWrite>,
    session: SessionPath,
    key: IdempotencyKey,
    body: JsonBody<SettingsPatch>,
) -> Result<web::Json<SessionSettings>, ProblemDetails> {
    let command_id = key.into_command_id();
    let command = settings_command(&caller.user, command_id.clone(), body.0)?;
    state
        .sessions
        .apply_command(session.session_id, command, |event| event.body.command_id() == Some(&command_id))
        .await?;
    Ok(web::Json(state.sessions.get_session(&caller.user, session.session_id).await?.settings))
}
