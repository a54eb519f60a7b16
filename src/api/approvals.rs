//! `/v1/sessions/{session_id}/approvals/{approval_id}`: answer the agent's question whether a call may run.

use actix_web::{post, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Api, Problem,
    extract::{Body, Caller, IdempotencyKey, InSession, fingerprint},
    problem::errors,
};
use crate::{
    runtime::SessionsError,
    session::{ApprovalId, ApprovalResolved, Command, CommandBody, CommandId, Decision, EventBody, SessionId, UserId},
};

errors!(
    ResolveErrors: InvalidJson, InvalidRequest, SessionNotFound, SessionDamaged, ApprovalNotFound, ApprovalClosed, DoesNotFit, PayloadTooLarge,
    CommandIdReused, InboxFull, StoreUnavailable, Stopping, Pending
);

/// An answer to a request for approval.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveApproval {
    /// Whether the call may run.
    pub(super) decision: Verdict,
    /// Run it with these arguments instead; with `approve` only.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(super) arguments: Option<serde_json::Map<String, serde_json::Value>>,
    /// For the log; the model is told of a refusal's.
    #[serde(default)]
    pub(super) comment: Option<String>,
}

/// Whether a call may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It may.
    Approve,
    /// It must not.
    Deny,
}

/// Approves or denies a tool call that waits.
#[utoipa::path(
    operation_id = "resolve_approval", tag = "approvals",
    params(
        ("session_id" = SessionId, Path, description = "The session"),
        ("approval_id" = ApprovalId, Path, description = "From `approval_requested`"),
        ("idempotency-key" = Option<String>, Header, description = "The same key is the same command"),
    ),
    request_body = ResolveApproval,
    responses((status = 200, description = "The answer as it was logged", body = ApprovalResolved), ResolveErrors)
)]
#[post("/sessions/{session_id}/approvals/{approval_id}")]
pub(super) async fn resolve(
    api: web::Data<Api>,
    caller: Caller,
    session: InSession,
    path: web::Path<(String, String)>,
    key: IdempotencyKey,
    body: Body<ResolveApproval>,
) -> Result<web::Json<ApprovalResolved>, Problem> {
    let approval_id: ApprovalId = path.1.parse()?;
    let command_id = key.0.unwrap_or_else(CommandId::generate);
    let command = command(&caller.0, command_id.clone(), approval_id, body.0)?;
    session.1.remember(&api, &caller.0, session.0).await?;
    let event = api
        .sessions
        .apply(session.0, command, |event| match &event.body {
            EventBody::ApprovalResolved(e) => e.approval_id == approval_id,
            // The run ended first, so that nothing will answer.
            body => body.ends_run(),
        })
        .await?;
    match &event.body {
        EventBody::ApprovalResolved(e) if e.command_id.as_ref() == Some(&command_id) => Ok(web::Json(e.clone())),
        _ => Err(SessionsError::ApprovalClosed(approval_id).into()),
    }
}

/// The command for an answer.
pub(super) fn command(
    user: &UserId,
    command_id: CommandId,
    approval_id: ApprovalId,
    answer: ResolveApproval,
) -> Result<Command, Problem> {
    if answer.decision == Verdict::Deny && answer.arguments.is_some() {
        return Err(Problem::invalid("arguments go with \"decision\": \"approve\" only"));
    }
    let fingerprint = fingerprint(&("resolve", approval_id, &answer));
    let decision = match answer.decision {
        Verdict::Approve => Decision::Approve,
        Verdict::Deny => Decision::Deny,
    };
    let arguments = answer.arguments.map(serde_json::Value::Object);
    let body = CommandBody::Resolve { approval_id, decision, arguments, comment: answer.comment };
    Ok(Command { command_id, fingerprint, by: user.clone(), body })
}
