//! `/v1/approvals` and `/v1/sessions/{session_id}/approvals/{approval_id}`: lists and answers approval requests, and returns
//! their previews.

use actix_web::{HttpRequest, HttpResponse, get, http::header, post, web};
use k8sops_core::{ApprovalId, ApprovalRequested, ApprovalResolved, EventBody, RunId, SessionId, UserId};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    caller::{Caller, CanApprove},
    commands::{ResolveApproval, approval_command},
    error_responses::document_errors,
    extractors::{IdempotencyKey, JsonBody, QueryParameters, SessionPath},
    problem::ProblemDetails,
    problem_code::ProblemCode,
    state::ApiState,
    tool_calls::{OutputRangeQuery, TextPart},
};
use crate::{
    auth::UserRole,
    runtime::{PreviewReader, SessionsError},
};

document_errors!(ListApprovalsErrors: StoreUnavailable);
document_errors!(
    ApprovalPreviewErrors: InvalidRequest, SessionNotFound, SessionDamaged, ApprovalNotFound, OutputNotFound,
    StoreUnavailable
);
document_errors!(
    ResolveApprovalErrors: InvalidJson, InvalidRequest, ApproverRequired, SessionNotFound, SessionDamaged,
    ApprovalNotFound, ApprovalClosed, DoesNotFit, PayloadTooLarge, CommandIdReused, InboxFull, StoreUnavailable, Stopping,
    Pending
);

/// Pending approval requests.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ApprovalList {
    /// The requests, sorted by expiry.
    approvals: Vec<ListedApproval>,
}

/// A pending approval request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PendingApproval)]
struct ListedApproval {
    /// The session.
    session_id: SessionId,
    /// The owner of the session.
    user_id: UserId,
    /// The run that waits for the approval.
    run_id: RunId,
    #[serde(flatten)]
    request: ApprovalRequested,
}

/// Lists the approval requests that the caller may answer.
///
/// These are the requests in the caller's own sessions. If `TOOL_APPROVAL_BY=approver`, callers with the role `approver` see
/// the requests in all other users' sessions instead. At most 1000 sessions are considered, those whose requests expire first.
#[utoipa::path(
    operation_id = "list_approvals", tag = "approvals",
    responses((status = 200, description = "The pending requests", body = ApprovalList), ListApprovalsErrors)
)]
#[get("/approvals")]
pub(super) async fn list_approvals(state: web::Data<ApiState>, caller: Caller) -> Result<HttpResponse, ProblemDetails> {
    let pending =
        state.sessions.list_pending_approvals(&caller.user, caller.identity.roles.contains(UserRole::Approver)).await?;
    let approvals = pending.into_iter().map(|approval| ListedApproval {
        session_id: approval.session,
        user_id: approval.user,
        run_id: approval.run,
        request: approval.asked,
    });
    let list = ApprovalList { approvals: approvals.collect() };
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(list))
}

/// Approves or denies a pending tool call.
///
/// The session must be the caller's own. If `TOOL_APPROVAL_BY=approver`, it must be another user's, and the caller needs the
/// role `approver`.
#[utoipa::path(
    operation_id = "resolve_approval", tag = "approvals",
    params(
        ("session_id" = SessionId, Path, description = "The session"),
        ("approval_id" = ApprovalId, Path, description = "The id from `approval_requested`"),
        ("idempotency-key" = Option<String>, Header, description = "Requests with the same key are executed once"),
    ),
    request_body = ResolveApproval,
    responses((status = 200, description = "The answer as it was logged", body = ApprovalResolved), ResolveApprovalErrors)
)]
#[post("/sessions/{session_id}/approvals/{approval_id}")]
pub(super) async fn resolve_approval(
    state: web::Data<ApiState>,
    caller: Caller<CanApprove>,
    session: SessionPath,
    path: web::Path<(String, String)>,
    key: IdempotencyKey,
    body: JsonBody<ResolveApproval>,
) -> Result<web::Json<ApprovalResolved>, ProblemDetails> {
    let approval_id: ApprovalId = path.1.parse()?;
    let command_id = key.into_command_id();
    let command = approval_command(&caller.identity, command_id.clone(), approval_id, body.0)?;
    match session.user_token.store_for_session(&state, &caller.user, session.session_id).await {
        // The token of an approver, whose session it is not, is not used for the session.
        Err(problem) if problem.code != ProblemCode::SessionNotFound => return Err(problem),
        _ => {}
    }
    let event = state
        .sessions
        .apply_command(session.session_id, command, |event| match &event.body {
            EventBody::ApprovalResolved(e) => e.approval_id == approval_id,
            // If the run ends first, the approval will never be resolved.
            body => body.ends_run(),
        })
        .await?;
    match &event.body {
        EventBody::ApprovalResolved(e) if e.command_id.as_ref() == Some(&command_id) => Ok(web::Json(e.clone())),
        _ => Err(SessionsError::ApprovalClosed(approval_id).into()),
    }
}

/// A part of the whole preview of an approval. Secrets are redacted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ApprovalPreviewPage {
    /// The approval.
    approval_id: ApprovalId,
    /// Where the part starts, in bytes.
    offset: u64,
    /// The text of the part.
    content: String,
    /// The size of the whole preview, in bytes.
    total_bytes: u64,
    /// Where the next part starts. `null` in the last part.
    next_offset: Option<u64>,
}

/// Returns the whole preview of an approval, in parts.
///
/// `preview` of `approval_requested` is cut where it is long; this is all of it, also after the approval was answered. If
/// `TOOL_APPROVAL_BY=approver`, callers with the role `approver` may read it in all sessions. With `Accept: text/plain` the
/// response is the text of the part.
#[utoipa::path(
    operation_id = "get_approval_preview", tag = "approvals",
    params(
        ("session_id" = SessionId, Path, description = "The session"),
        ("approval_id" = ApprovalId, Path, description = "The id from `approval_requested`"),
        OutputRangeQuery,
    ),
    responses(
        (status = 200, description = "A part of the preview",
            content((ApprovalPreviewPage = "application/json"), (String = "text/plain"))),
        ApprovalPreviewErrors
    )
)]
#[get("/sessions/{session_id}/approvals/{approval_id}/preview")]
pub(super) async fn get_approval_preview(
    state: web::Data<ApiState>,
    caller: Caller,
    session: SessionPath,
    path: web::Path<(String, String)>,
    request: HttpRequest,
    QueryParameters(range): QueryParameters<OutputRangeQuery>,
) -> Result<HttpResponse, ProblemDetails> {
    let approval_id: ApprovalId = path.1.parse()?;
    let window = range.window()?;
    let is_approver = caller.identity.roles.contains(UserRole::Approver);
    let reader = PreviewReader { user: caller.user, is_approver };
    let found = state
        .sessions
        .read_approval_preview(&reader, session.session_id, approval_id, window.from, window.bytes)
        .await?;
    Ok(window.cut(&found).respond(&request, |TextPart { offset, content, total_bytes, next_offset }| {
        ApprovalPreviewPage { approval_id, offset, content, total_bytes, next_offset }
    }))
}
