//! `/v1/approvals` and `/v1/sessions/{session_id}/approvals/{approval_id}`: the agent's questions whether calls may run, and
//! the answers.

use actix_web::{HttpResponse, get, http::header, post, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    ApiState, ProblemCode, ProblemDetails,
    extract::{Body, Caller, CanApprove, IdempotencyKey, SessionPath, fingerprint},
    problem::document_errors,
};
use crate::{
    auth::{CallerIdentity, UserRole},
    runtime::SessionsError,
};
use k8sops_core::{
    ApprovalDecision, ApprovalId, ApprovalRequested, ApprovalResolved, CommandBody, CommandId, EventBody, RunId,
    SessionCommand, SessionId, UserId,
};

document_errors!(ListErrors: StoreUnavailable);
document_errors!(
    ResolveErrors: InvalidJson, InvalidRequest, ApproverRequired, SessionNotFound, SessionDamaged, ApprovalNotFound, ApprovalClosed, DoesNotFit, PayloadTooLarge,
    CommandIdReused, InboxFull, StoreUnavailable, Stopping, Pending
);

/// What waits for an answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct ApprovalList {
    /// Those that run out first come first.
    approvals: Vec<PendingApproval>,
}

/// A tool call that waits for an answer.
#[derive(Debug, Serialize, ToSchema)]
struct PendingApproval {
    /// The session.
    session_id: SessionId,
    /// Whose session it is.
    user_id: UserId,
    /// The run that waits.
    run_id: RunId,
    /// What is asked.
    #[serde(flatten)]
    asked: ApprovalRequested,
}

/// The approvals that the caller may answer.
///
/// Those of the caller's own sessions; where `TOOL_APPROVAL_BY=approver`, those of all other users' sessions, to callers with
/// the role `approver`. At most 1000 sessions are looked at, those whose approvals run out first.
#[utoipa::path(
    operation_id = "list_approvals", tag = "approvals",
    responses((status = 200, description = "What waits", body = ApprovalList), ListErrors)
)]
#[get("/approvals")]
pub(super) async fn list(api: web::Data<ApiState>, caller: Caller) -> Result<HttpResponse, ProblemDetails> {
    let found =
        api.sessions.list_pending_approvals(&caller.user, caller.identity.roles.contains(UserRole::Approver)).await?;
    let approvals = found.into_iter().map(|waiting| PendingApproval {
        session_id: waiting.session,
        user_id: waiting.user,
        run_id: waiting.run,
        asked: waiting.asked,
    });
    let list = ApprovalList { approvals: approvals.collect() };
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(list))
}

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
///
/// In a session of the caller's own; where `TOOL_APPROVAL_BY=approver`, in one of somebody else's, with the role `approver`.
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
    api: web::Data<ApiState>,
    caller: Caller<CanApprove>,
    session: SessionPath,
    path: web::Path<(String, String)>,
    key: IdempotencyKey,
    body: Body<ResolveApproval>,
) -> Result<web::Json<ApprovalResolved>, ProblemDetails> {
    let approval_id: ApprovalId = path.1.parse()?;
    let command_id = key.0.unwrap_or_else(CommandId::generate);
    let command = command(&caller.identity, command_id.clone(), approval_id, body.0)?;
    match session.1.remember(&api, &caller.user, session.0).await {
        // It may be an approver's, whose token is no business of the session's.
        Err(problem) if problem.code != ProblemCode::SessionNotFound => return Err(problem),
        _ => {}
    }
    let event = api
        .sessions
        .apply_command(session.0, command, |event| match &event.body {
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
    caller: &CallerIdentity,
    command_id: CommandId,
    approval_id: ApprovalId,
    answer: ResolveApproval,
) -> Result<SessionCommand, ProblemDetails> {
    if answer.decision == Verdict::Deny && answer.arguments.is_some() {
        return Err(ProblemDetails::invalid("arguments go with \"decision\": \"approve\" only"));
    }
    let fingerprint = fingerprint(&("resolve", approval_id, &answer));
    let decision = match answer.decision {
        Verdict::Approve => ApprovalDecision::Approve,
        Verdict::Deny => ApprovalDecision::Deny,
    };
    let arguments = answer.arguments.map(serde_json::Value::Object);
    let approver = caller.roles.contains(UserRole::Approver);
    let body = CommandBody::Resolve { approval_id, decision, arguments, comment: answer.comment, approver };
    Ok(SessionCommand { command_id, fingerprint, by: caller.user.clone(), body })
}
