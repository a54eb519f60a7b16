//! `/v1/sessions`: create, list, look at, rename, delete.

use actix_web::{HttpResponse, delete, get, http::header, patch, post, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    ApiState, ProblemDetails,
    extract::{Body, Caller, CanWrite, IdempotencyKey, Query, SessionPath, fingerprint},
    problem::document_errors,
};
use k8sops_core::{
    CommandBody, CommandId, ListCursor, ReasoningEffort, SessionCommand, SessionId, SessionSettings, SessionStatus,
    SessionSummary, SettingsPatch, Timestamp, TokenUsage,
};

document_errors!(CreateErrors: InvalidJson, InvalidRequest, TooManySessions, PayloadTooLarge, StoreUnavailable, Stopping);
document_errors!(ListErrors: InvalidRequest, StoreUnavailable);
document_errors!(GetErrors: InvalidRequest, SessionNotFound, SessionDamaged, StoreUnavailable);
document_errors!(UpdateErrors: InvalidJson, InvalidRequest, SessionNotFound, SessionDamaged, PayloadTooLarge, CommandIdReused, InboxFull, StoreUnavailable, Stopping, Pending);
document_errors!(DeleteErrors: InvalidRequest, SessionNotFound, StoreUnavailable);

/// The most characters of a title.
const MAX_TITLE: usize = 200;

/// A session, as the API shows it.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionView {
    /// Its id.
    pub session_id: SessionId,
    /// Its title; empty until the first message makes one.
    pub title: String,
    /// The beginning of its newest message.
    pub preview: String,
    /// Whether it can work, and does.
    pub status: SessionStatus,
    /// Messages of the user and the model so far.
    pub message_count: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its newest event was logged.
    pub updated_at: Timestamp,
    /// The seq of its newest event: where a stream goes on live.
    pub last_seq: u64,
    /// Its settings.
    pub settings: SessionSettings,
    /// Tokens that it used so far.
    pub usage: TokenUsage,
}

impl SessionView {
    pub(super) fn new(api: &ApiState, summary: SessionSummary) -> Self {
        Self {
            status: api.status(&summary),
            session_id: summary.session_id,
            title: summary.title,
            preview: summary.preview,
            message_count: summary.message_count,
            created_at: summary.created_at,
            updated_at: summary.updated_at,
            last_seq: summary.last_seq,
            settings: summary.settings,
            usage: summary.usage,
        }
    }
}

/// A new session. All fields may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSession {
    /// Its title; the first message makes one otherwise.
    #[serde(default)]
    title: Option<String>,
    /// The provider's id in the catalog.
    #[serde(default)]
    provider: Option<String>,
    /// The model's id at that provider.
    #[serde(default)]
    model: Option<String>,
    /// Sampling temperature, 0 to 2.
    #[serde(default)]
    temperature: Option<f64>,
    /// The most tokens of one reply.
    #[serde(default)]
    #[schema(minimum = 1)]
    max_tokens: Option<u32>,
    /// How much the model thinks before it answers.
    #[serde(default)]
    reasoning: Option<ReasoningEffort>,
    /// Whether memories are recalled and kept; `false` is a session off the record.
    #[serde(default)]
    #[schema(default = true)]
    memory: Option<bool>,
}

/// Begins a session.
///
/// When the user has `MAX_SESSIONS` already, the one with the oldest activity is deleted, never one with a run in progress.
#[utoipa::path(
    operation_id = "create_session", tag = "sessions",
    request_body(content = CreateSession, description = "May be empty"),
    responses(
        (status = 201, description = "The session", body = SessionView, headers(("location" = String, description = "Its path"))),
        CreateErrors,
    )
)]
#[post("/sessions")]
pub(super) async fn create(
    api: web::Data<ApiState>,
    caller: Caller<CanWrite>,
    body: Body<CreateSession>,
) -> Result<HttpResponse, ProblemDetails> {
    let CreateSession { title, provider, model, temperature, max_tokens, reasoning, memory } = body.0;
    let title = title.map(|title| checked_title(&title)).transpose()?;
    let patch = SettingsPatch {
        provider,
        model,
        temperature: temperature.map(Some),
        max_tokens: max_tokens.map(Some),
        reasoning: reasoning.map(Some),
        memory: memory.map(Some),
    };
    let settings = patch.apply(&api.defaults.load());
    if patch != SettingsPatch::default() {
        api.catalog.validate_settings(&settings)?;
    }
    let summary = api.sessions.create_session(&caller.user, title, settings).await?;
    let location = format!("/v1/sessions/{}", summary.session_id);
    Ok(HttpResponse::Created().insert_header((header::LOCATION, location)).json(SessionView::new(&api, summary)))
}

/// Which part of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// How many at the most, 1 to 200.
    #[serde(default = "default_limit")]
    #[param(default = 50, minimum = 1, maximum = 200)]
    limit: usize,
    /// `next_cursor` of the page before.
    #[serde(default)]
    cursor: Option<String>,
}

fn default_limit() -> usize {
    50
}

/// A part of the list of sessions.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionList {
    /// Newest activity first.
    sessions: Vec<SessionView>,
    /// For the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// The user's sessions, newest activity first.
#[utoipa::path(
    operation_id = "list_sessions", tag = "sessions",
    params(Page),
    responses(
        (status = 200, description = "A page of sessions", body = SessionList),
        ListErrors,
    )
)]
#[get("/sessions")]
pub(super) async fn list(
    api: web::Data<ApiState>,
    caller: Caller,
    Query(page): Query<Page>,
) -> Result<web::Json<SessionList>, ProblemDetails> {
    if !(1..=200).contains(&page.limit) {
        return Err(ProblemDetails::invalid("limit must be 1 to 200"));
    }
    let after = page.cursor.as_deref().map(read_cursor).transpose()?;
    let mut sessions = api.sessions.list_sessions(&caller.user, after, page.limit + 1).await?;
    let more = sessions.len() > page.limit;
    sessions.truncate(page.limit);
    let next_cursor =
        sessions.last().filter(|_| more).map(|s| format!("{}.{}", s.updated_at.as_millis(), s.session_id));
    let sessions = sessions.into_iter().map(|summary| SessionView::new(&api, summary)).collect();
    Ok(web::Json(SessionList { sessions, next_cursor }))
}

fn read_cursor(text: &str) -> Result<ListCursor, ProblemDetails> {
    let parsed = text.split_once('.').and_then(|(ms, id)| {
        Some(ListCursor { updated_at: Timestamp::from_millis(ms.parse().ok()?), session_id: id.parse().ok()? })
    });
    parsed.ok_or_else(|| ProblemDetails::invalid("cursor must be the next_cursor of a page before"))
}

/// One session.
#[utoipa::path(
    operation_id = "get_session", tag = "sessions",
    params(("session_id" = SessionId, Path, description = "The session")),
    responses(
        (status = 200, description = "The session", body = SessionView),
        GetErrors,
    )
)]
#[get("/sessions/{session_id}")]
pub(super) async fn get(
    api: web::Data<ApiState>,
    caller: Caller,
    session: SessionPath,
) -> Result<web::Json<SessionView>, ProblemDetails> {
    let summary = api.sessions.get_session(&caller.user, session.0).await?;
    Ok(web::Json(SessionView::new(&api, summary)))
}

/// A change of a session.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateSession {
    /// Its title, 1 to 200 characters.
    title: String,
}

/// Renames a session.
#[utoipa::path(
    operation_id = "update_session", tag = "sessions",
    params(
        ("session_id" = SessionId, Path, description = "The session"),
        ("idempotency-key" = Option<String>, Header, description = "The same key is the same command"),
    ),
    request_body = UpdateSession,
    responses(
        (status = 200, description = "The session", body = SessionView),
        UpdateErrors,
    )
)]
#[patch("/sessions/{session_id}")]
pub(super) async fn update(
    api: web::Data<ApiState>,
    caller: Caller<CanWrite>,
    session: SessionPath,
    key: IdempotencyKey,
    body: Body<UpdateSession>,
) -> Result<web::Json<SessionView>, ProblemDetails> {
    let title = checked_title(&body.0.title)?;
    let command_id = key.0.unwrap_or_else(CommandId::generate);
    let command = SessionCommand {
        command_id: command_id.clone(),
        fingerprint: fingerprint(&("title", &title)),
        by: caller.user.clone(),
        body: CommandBody::Title { title },
    };
    api.sessions.apply_command(session.0, command, |event| event.body.command_id() == Some(&command_id)).await?;
    let summary = api.sessions.get_session(&caller.user, session.0).await?;
    Ok(web::Json(SessionView::new(&api, summary)))
}

/// Deletes a session with all that belongs to it. A run in progress is broken off.
#[utoipa::path(
    operation_id = "delete_session", tag = "sessions",
    params(("session_id" = SessionId, Path, description = "The session")),
    responses(
        (status = 204, description = "It is gone"),
        DeleteErrors,
    )
)]
#[delete("/sessions/{session_id}")]
pub(super) async fn delete(
    api: web::Data<ApiState>,
    caller: Caller<CanWrite>,
    session: SessionPath,
) -> Result<HttpResponse, ProblemDetails> {
    api.sessions.delete_session(&caller.user, session.0).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn checked_title(title: &str) -> Result<String, ProblemDetails> {
    let title = title.trim();
    if title.is_empty() || title.chars().count() > MAX_TITLE || title.chars().any(char::is_control) {
        return Err(ProblemDetails::invalid(format!(
            "title must be one line of 1 to {MAX_TITLE} characters, at least one of them not white space"
        )));
    }
    Ok(title.to_owned())
}
