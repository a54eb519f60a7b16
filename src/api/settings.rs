//! `/v1/sessions/{session_id}/settings`: who answers and how, and whether it is remembered.

use actix_web::{get, patch, web};

use super::{
    ApiState, ProblemDetails,
    extract::{Body, Caller, CanWrite, IdempotencyKey, SessionPath, fingerprint},
    problem::document_errors,
};
use k8sops_core::{CommandBody, CommandId, SessionCommand, SessionId, SessionSettings, SettingsPatch, UserId};

document_errors!(GetErrors: InvalidRequest, SessionNotFound, SessionDamaged, StoreUnavailable);
document_errors!(
    UpdateErrors: InvalidJson, InvalidRequest, SessionNotFound, SessionDamaged, PayloadTooLarge, CommandIdReused, InboxFull,
    StoreUnavailable, Stopping, Pending
);

/// A session's settings.
#[utoipa::path(
    operation_id = "get_settings", tag = "sessions",
    params(("session_id" = SessionId, Path, description = "The session")),
    responses((status = 200, description = "The settings", body = SessionSettings), GetErrors)
)]
#[get("/sessions/{session_id}/settings")]
pub(super) async fn get(
    api: web::Data<ApiState>,
    caller: Caller,
    session: SessionPath,
) -> Result<web::Json<SessionSettings>, ProblemDetails> {
    Ok(web::Json(api.sessions.get_session(&caller.user, session.0).await?.settings))
}

/// Changes some settings; they apply from the next run on.
///
/// What is left out stays; `null` brings back the default of `temperature`, `max_tokens`, `reasoning` and `memory`. Another provider needs a model of its own.
#[utoipa::path(
    operation_id = "update_settings", tag = "sessions",
    params(
        ("session_id" = SessionId, Path, description = "The session"),
        ("idempotency-key" = Option<String>, Header, description = "The same key is the same command"),
    ),
    request_body = SettingsPatch,
    responses((status = 200, description = "The settings as they are now", body = SessionSettings), UpdateErrors)
)]
#[patch("/sessions/{session_id}/settings")]
pub(super) async fn update(
    api: web::Data<ApiState>,
    caller: Caller<CanWrite>,
    session: SessionPath,
    key: IdempotencyKey,
    body: Body<SettingsPatch>,
) -> Result<web::Json<SessionSettings>, ProblemDetails> {
    let command_id = key.0.unwrap_or_else(CommandId::generate);
    let command = command(&caller.user, command_id.clone(), body.0)?;
    api.sessions.apply_command(session.0, command, |event| event.body.command_id() == Some(&command_id)).await?;
    Ok(web::Json(api.sessions.get_session(&caller.user, session.0).await?.settings))
}

/// The command for a change of settings.
pub(super) fn command(
    user: &UserId,
    command_id: CommandId,
    patch: SettingsPatch,
) -> Result<SessionCommand, ProblemDetails> {
    if patch == SettingsPatch::default() {
        return Err(ProblemDetails::invalid(
            "nothing to change: give provider, model, temperature, max_tokens, reasoning or memory",
        ));
    }
    Ok(SessionCommand {
        command_id,
        fingerprint: fingerprint(&("settings", &patch)),
        by: user.clone(),
        body: CommandBody::Settings(patch),
    })
}
