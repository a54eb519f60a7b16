//! `/v1/sessions/{session_id}/export` and `/shares`: reports of sessions, and links by which others read them.

use std::time::Duration;

use actix_web::{
    HttpResponse, delete, get,
    http::header::{self, ContentDisposition, DispositionParam, DispositionType},
    post, web,
};
use k8sops_core::{EventAuthor, SessionId, SessionReport, Timestamp, offload_work};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    caller::{Caller, CanWrite},
    error_responses::document_errors,
    extractors::{JsonBody, QueryParameters, SessionPath},
    long_response::LongBody,
    negotiation::JSON,
    problem::ProblemDetails,
    problem_code::ProblemCode,
    report_html::{POLICY, render_html},
    report_markdown::render_markdown,
    report_text::report_title,
    state::ApiState,
};
use crate::runtime::SessionShare;

/// The longest lifetime of a link, in hours: 90 days.
const MAX_HOURS: u32 = 90 * 24;

document_errors!(ExportErrors: InvalidRequest, SessionNotFound, SessionDamaged, StoreUnavailable);
document_errors!(
    CreateShareErrors: InvalidJson, InvalidRequest, NotFound, SessionNotFound, SessionDamaged, PayloadTooLarge,
    StoreUnavailable
);
document_errors!(ListSharesErrors: InvalidRequest, SessionNotFound, SessionDamaged, StoreUnavailable);
document_errors!(RevokeShareErrors: InvalidRequest, SessionNotFound, SessionDamaged, ShareNotFound, StoreUnavailable);
document_errors!(SharedReportErrors: InvalidRequest, ShareNotFound, StoreUnavailable);

/// The format of a report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ReportFormat {
    /// Markdown.
    #[default]
    Md,
    /// One HTML file, without scripts, that loads nothing.
    Html,
    /// JSON.
    Json,
}

/// How a report is sent.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ExportQuery {
    /// The format: `md`, `html` or `json`. Without it, an export is `md` and a shared report `html`.
    #[serde(default)]
    #[param(inline)]
    format: Option<ReportFormat>,
}

/// Returns the report of a session: summary, changes with their diffs and approvals, timeline, conversation with the outputs as
/// evidence, and usage.
///
/// It contains what the log contains, in which secrets are redacted.
#[utoipa::path(
    operation_id = "export_session", tag = "sessions",
    params(("session_id" = SessionId, Path, description = "The session"), ExportQuery),
    responses(
        (status = 200, description = "The report", content(
            (SessionReport = "application/json"),
            (String = "text/markdown"),
            (String = "text/html"),
        )),
        ExportErrors
    )
)]
#[get("/sessions/{session_id}/export")]
pub(super) async fn export_session(
    state: web::Data<ApiState>,
    caller: Caller,
    session: SessionPath,
    QueryParameters(query): QueryParameters<ExportQuery>,
) -> Result<HttpResponse, ProblemDetails> {
    let report = state.sessions.read_report(&caller.user, session.session_id).await?;
    let format = query.format.unwrap_or_default();
    let disposition = ContentDisposition {
        disposition: DispositionType::Attachment,
        parameters: vec![DispositionParam::Filename(file_name(&report, format))],
    };
    let mut response = report_response(report, format).await?;
    if let Ok(value) = header::TryIntoHeaderValue::try_into_value(disposition) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

async fn report_response(report: SessionReport, format: ReportFormat) -> Result<HttpResponse, ProblemDetails> {
    let rendered = offload_work(move || match format {
        ReportFormat::Json => serde_json::to_string(&report),
        ReportFormat::Md => Ok(render_markdown(&report)),
        ReportFormat::Html => Ok(render_html(&report)),
    });
    let text = rendered.await.map_err(|error| {
        ProblemDetails::new(ProblemCode::Internal, format!("the report cannot be written as JSON: {error}"))
    })?;
    let mut response = HttpResponse::Ok();
    match format {
        ReportFormat::Json => response.content_type(JSON),
        ReportFormat::Md => response.content_type("text/markdown; charset=utf-8"),
        ReportFormat::Html => response
            .content_type("text/html; charset=utf-8")
            .insert_header((header::CONTENT_SECURITY_POLICY, format!("{}; sandbox", *POLICY))),
    };
    Ok(response.body(LongBody::new(text)))
}

/// Returns the name of a report's file: its title and day, in characters that every file system accepts.
fn file_name(report: &SessionReport, format: ReportFormat) -> String {
    let words = report_title(report);
    let words = words.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let mut name = String::new();
    for word in words.map(str::to_ascii_lowercase) {
        if name.len() + word.len() > 60 {
            break;
        }
        name.push_str(&word);
        name.push('-');
    }
    let day: String = report.created_at.to_string().chars().take(10).collect();
    let extension = match format {
        ReportFormat::Md => "md",
        ReportFormat::Html => "html",
        ReportFormat::Json => "json",
    };
    format!("{name}{day}.{extension}")
}

/// A new link.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateShare {
    /// After how many hours the link expires, 1 to 2160 (90 days).
    #[serde(default)]
    #[schema(default = 168, minimum = 1, maximum = 2160)]
    expires_in_hours: Option<u32>,
}

/// A link by which others read a session.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Share)]
pub(super) struct ShareView {
    /// The id, by which the link is revoked.
    share_id: String,
    /// The path of the shared page at this service. Only in the answer to the request that created the link.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// Who created the link: `user:<id>`.
    #[schema(value_type = String)]
    by: EventAuthor,
    /// When the link was created.
    created_at: Timestamp,
    /// When the link expires.
    expires_at: Timestamp,
}

impl ShareView {
    fn new(share: SessionShare, path: Option<String>) -> Self {
        let SessionShare { id, by, created_at, expires_at } = share;
        Self { share_id: id.to_string(), path, by, created_at, expires_at }
    }
}

/// Creates a link by which others read a session, without a key, until it expires or is revoked.
///
/// The link shows the report of the session as it is when it is opened, and nothing else.
#[utoipa::path(
    operation_id = "create_share", tag = "sessions",
    params(("session_id" = SessionId, Path, description = "The session")),
    request_body(content = CreateShare, description = "May be empty"),
    responses((status = 201, description = "The link", body = ShareView), CreateShareErrors)
)]
#[post("/sessions/{session_id}/shares")]
pub(super) async fn create_share(
    state: web::Data<ApiState>,
    caller: Caller<CanWrite>,
    session: SessionPath,
    body: JsonBody<CreateShare>,
) -> Result<HttpResponse, ProblemDetails> {
    ensure_shares_are_on(&state)?;
    let hours = body.0.expires_in_hours.unwrap_or(7 * 24);
    if !(1..=MAX_HOURS).contains(&hours) {
        return Err(ProblemDetails::invalid(format!("expires_in_hours must be 1 to {MAX_HOURS}")));
    }
    let lifetime = Duration::from_secs(u64::from(hours) * 3600);
    let (share, token) = state.sessions.create_share(&caller.user, session.session_id, lifetime).await?;
    let path = format!("/shared/{}/{token}", session.session_id);
    Ok(HttpResponse::Created().json(ShareView::new(share, Some(path))))
}

/// The links to a session.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShareList {
    /// The links that have not expired, the oldest first.
    shares: Vec<ShareView>,
}

/// Lists the links by which others read a session.
#[utoipa::path(
    operation_id = "list_shares", tag = "sessions",
    params(("session_id" = SessionId, Path, description = "The session")),
    responses((status = 200, description = "The links", body = ShareList), ListSharesErrors)
)]
#[get("/sessions/{session_id}/shares")]
pub(super) async fn list_shares(
    state: web::Data<ApiState>,
    caller: Caller,
    session: SessionPath,
) -> Result<web::Json<ShareList>, ProblemDetails> {
    let shares = state.sessions.list_shares(&caller.user, session.session_id).await?;
    Ok(web::Json(ShareList { shares: shares.into_iter().map(|share| ShareView::new(share, None)).collect() }))
}

/// Revokes a link by which others read a session.
#[utoipa::path(
    operation_id = "revoke_share", tag = "sessions",
    params(
        ("session_id" = SessionId, Path, description = "The session"),
        ("share_id" = String, Path, description = "The id of the link"),
    ),
    responses((status = 204, description = "The link is revoked"), RevokeShareErrors)
)]
#[delete("/sessions/{session_id}/shares/{share_id}")]
pub(super) async fn revoke_share(
    state: web::Data<ApiState>,
    caller: Caller<CanWrite>,
    session: SessionPath,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ProblemDetails> {
    state.sessions.revoke_share(&caller.user, session.session_id, &path.1.parse()?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Shows the report of a shared session. It needs no key: the link is the credential.
#[utoipa::path(
    operation_id = "get_shared_report", tag = "sessions",
    params(
        ("session_id" = SessionId, Path, description = "The session"),
        ("token" = String, Path, description = "The secret part of the link"),
        ExportQuery,
    ),
    responses(
        (status = 200, description = "The report, as HTML by default", content(
            (String = "text/html"),
            (String = "text/markdown"),
            (SessionReport = "application/json"),
        )),
        SharedReportErrors
    )
)]
#[get("/shared/{session_id}/{token}")]
pub(super) async fn get_shared_report(
    state: web::Data<ApiState>,
    path: web::Path<(String, String)>,
    QueryParameters(query): QueryParameters<ExportQuery>,
) -> Result<HttpResponse, ProblemDetails> {
    let (session, token) = path.into_inner();
    // A link that is not even one is not told from one that is revoked.
    let session: SessionId =
        session.parse().map_err(|_| ProblemDetails::from(crate::runtime::SessionsError::ShareNotFound))?;
    ensure_shares_are_on(&state).map_err(|_| ProblemDetails::from(crate::runtime::SessionsError::ShareNotFound))?;
    let report = state.sessions.read_shared_report(session, &token).await?;
    let mut response = report_response(report, query.format.unwrap_or(ReportFormat::Html)).await?;
    for (name, value) in
        [(header::CACHE_CONTROL, "no-store"), (header::HeaderName::from_static("x-robots-tag"), "noindex")]
    {
        response.headers_mut().insert(name, header::HeaderValue::from_static(value));
    }
    Ok(response)
}

fn ensure_shares_are_on(state: &ApiState) -> Result<(), ProblemDetails> {
    if state.server.shares {
        return Ok(());
    }
    Err(ProblemDetails::new(ProblemCode::NotFound, "links to sessions are switched off (K8SOPS_SHARES)"))
}
