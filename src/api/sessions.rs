//! `/v1/sessions`: creates, lists, shows, renames and deletes sessions.

use actix_web::{HttpResponse, delete, get, http::header, patch, post, web};
use k8sops_core::{
    ListCursor, ReasoningEffort, SessionId, SessionOrigin, SessionSettings, SessionStatus, SessionSummary,
    SettingsPatch, Timestamp, TokenUsage,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    caller::{Caller, CanWrite},
    commands::{fingerprint, title_command, validate_title},
    error_responses::document_errors,
    extractors::{IdempotencyKey, JsonBody, QueryParameters, SessionPath},
    problem::ProblemDetails,
    state::ApiState,
};
use crate::runtime::{CreatedSession, CreationKey, NewSession};

document_errors!(
    CreateSessionErrors: InvalidJson, InvalidRequest, SessionNotFound, TooManySessions, PayloadTooLarge, CommandIdReused,
    StoreUnavailable, Stopping
);
document_errors!(ListSessionsErrors: InvalidRequest, StoreUnavailable);
document_errors!(GetSessionErrors: InvalidRequest, SessionNotFound, SessionDamaged, StoreUnavailable);
document_errors!(
    UpdateSessionErrors: InvalidJson, InvalidRequest, SessionNotFound, SessionDamaged, PayloadTooLarge, CommandIdReused,
    InboxFull, StoreUnavailable, Stopping, Pending
);
document_errors!(DeleteSessionErrors: InvalidRequest, SessionNotFound, StoreUnavailable);

/// A session.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionView {
    /// The id of the session.
    pub session_id: SessionId,
    /// The title. Empty until it is derived from the first message.
    pub title: String,
    /// The beginning of the newest message.
    pub preview: String,
    /// Whether the session is able to work, and whether it is working.
    pub status: SessionStatus,
    /// The number of messages of the user and the model.
    pub message_count: u64,
    /// When the session was created.
    pub created_at: Timestamp,
    /// When the newest event was logged.
    pub updated_at: Timestamp,
    /// The seq of the newest event. A stream after this seq contains only new events.
    pub last_seq: u64,
    /// The settings.
    pub settings: SessionSettings,
    /// The tokens that the session has used.
    pub usage: TokenUsage,
    /// What the session was opened for.
    pub origin: SessionOrigin,
}

impl SessionView {
    fn new(state: &ApiState, summary: SessionSummary) -> Self {
        Self {
            status: state.session_status(&summary),
            session_id: summary.session_id,
            title: summary.title,
            preview: summary.preview,
            message_count: summary.message_count,
            created_at: summary.created_at,
            updated_at: summary.updated_at,
            last_seq: summary.last_seq,
            settings: summary.settings,
            usage: summary.usage,
            origin: summary.origin,
        }
    }
}

/// A new session. All fields are optional.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateSession {
    /// The title. By default it is derived from the first message.
    #[serde(default)]
    title: Option<String>,
    /// The provider's id in the catalog.
    #[serde(default)]
    provider: Option<String>,
    /// The model's id at the provider.
    #[serde(default)]
    model: Option<String>,
    /// The sampling temperature, 0 to 2.
    #[serde(default)]
    temperature: Option<f64>,
    /// The maximum number of tokens of one reply.
    #[serde(default)]
    #[schema(minimum = 1)]
    max_tokens: Option<u32>,
    /// How much the model reasons before it replies.
    #[serde(default)]
    reasoning: Option<ReasoningEffort>,
    /// Whether the session uses and creates long-term memories.
    #[serde(default)]
    #[schema(default = true)]
    memory: Option<bool>,
    /// The user's time zone by its IANA name, like `Europe/Berlin`.
    #[serde(default)]
    time_zone: Option<String>,
    /// What the session is opened for. One that an alert opens is never deleted to make room for another.
    #[serde(default)]
    origin: SessionOrigin,
}

/// Creates a session.
///
/// If the user already has `MAX_SESSIONS` sessions, the least recently active one is deleted, and `Warning` names it. One with a
/// run in progress, one that waits for an answer, and one that an alert opened are never deleted.
///
/// With an `Idempotency-Key`, a repetition within 24 hours returns the same session.
#[utoipa::path(
    operation_id = "create_session", tag = "sessions",
    params(("idempotency-key" = Option<String>, Header, description = "Requests with the same key create one session")),
    request_body(content = CreateSession, description = "May be empty"),
    responses(
        (status = 201, description = "The session", body = SessionView, headers(
            ("location" = String, description = "The path of the session"),
            ("warning" = Option<String>, description = "The sessions that were deleted to make room"),
        )),
        CreateSessionErrors,
    )
)]
#[post("/sessions")]
pub(super) async fn create_session(
    state: web::Data<ApiState>,
    caller: Caller<CanWrite>,
    key: IdempotencyKey,
    body: JsonBody<CreateSession>,
) -> Result<HttpResponse, ProblemDetails> {
    let fingerprint = fingerprint(&("create", &body.0));
    let key = key.into_client_key().map(|id| CreationKey { id, fingerprint });
    let CreateSession { title, provider, model, temperature, max_tokens, reasoning, memory, time_zone, origin } =
        body.0;
    let title = title.map(|title| validate_title(&title)).transpose()?;
    let patch = SettingsPatch {
        provider,
        model,
        temperature: temperature.map(Some),
        max_tokens: max_tokens.map(Some),
        reasoning: reasoning.map(Some),
        memory: memory.map(Some),
        time_zone: time_zone.map(Some),
    };
    let settings = patch.apply_to(&state.default_settings.load());
    if patch != SettingsPatch::default() {
        state.catalog.validate_settings(&settings)?;
    }
    let new = NewSession { title, settings, origin };
    let CreatedSession { summary, evicted } = state.sessions.create_session(&caller.user, new, key).await?;
    let location = format!("/v1/sessions/{}", summary.session_id);
    let mut response = HttpResponse::Created();
    response.insert_header((header::LOCATION, location));
    if !evicted.is_empty() {
        response.insert_header((header::WARNING, eviction_warning(&evicted)));
    }
    Ok(response.json(SessionView::new(&state, summary)))
}

/// Returns the `Warning` field (RFC 9111, section 5.5) of an answer that deleted sessions.
fn eviction_warning(evicted: &[SessionId]) -> String {
    let warning = |session| format!("299 k8sops \"session {session} was deleted to make room, see MAX_SESSIONS\"");
    evicted.iter().map(warning).collect::<Vec<_>>().join(", ")
}

/// Which page of the list is returned.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SessionListQuery {
    /// The maximum number of sessions, 1 to 200.
    #[serde(default = "default_limit")]
    #[param(default = 50, minimum = 1, maximum = 200)]
    limit: usize,
    /// The `next_cursor` of the previous page.
    #[serde(default)]
    cursor: Option<String>,
}

fn default_limit() -> usize {
    50
}

/// A page of sessions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionList {
    /// The sessions, most recently active first.
    sessions: Vec<SessionView>,
    /// The cursor of the next page. Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Lists the user's sessions, most recently active first.
#[utoipa::path(
    operation_id = "list_sessions", tag = "sessions",
    params(SessionListQuery),
    responses(
        (status = 200, description = "A page of sessions", body = SessionList),
        ListSessionsErrors,
    )
)]
#[get("/sessions")]
pub(super) async fn list_sessions(
    state: web::Data<ApiState>,
    caller: Caller,
    QueryParameters(query): QueryParameters<SessionListQuery>,
) -> Result<web::Json<SessionList>, ProblemDetails> {
    if !(1..=200).contains(&query.limit) {
        return Err(ProblemDetails::invalid("limit must be 1 to 200"));
    }
    let after = query.cursor.as_deref().map(parse_list_cursor).transpose()?;
    let mut sessions = state.sessions.list_sessions(&caller.user, after, query.limit + 1).await?;
    let has_more = sessions.len() > query.limit;
    sessions.truncate(query.limit);
    let next_cursor =
        sessions.last().filter(|_| has_more).map(|s| format!("{}.{}", s.updated_at.as_millis(), s.session_id));
    let sessions = sessions.into_iter().map(|summary| SessionView::new(&state, summary)).collect();
    Ok(web::Json(SessionList { sessions, next_cursor }))
}

fn parse_list_cursor(text: &str) -> Result<ListCursor, ProblemDetails> {
    let parsed = text.split_once('.').and_then(|(ms, id)| {
        Some(ListCursor { updated_at: Timestamp::from_millis(ms.parse().ok()?), session_id: id.parse().ok()? })
    });
    parsed.ok_or_else(|| ProblemDetails::invalid("cursor must be the next_cursor of the previous page"))
}

/// Returns a session.
#[utoipa::path(
    operation_id = "get_session", tag = "sessions",
    params(("session_id" = SessionId, Path, description = "The session")),
    responses(
        (status = 200, description = "The session", body = SessionView),
        GetSessionErrors,
    )
)]
#[get("/sessions/{session_id}")]
pub(super) async fn get_session(
    state: web::Data<ApiState>,
    caller: Caller,
    session: SessionPath,
) -> Result<web::Json<SessionView>, ProblemDetails> {
    let summary = state.sessions.get_session(&caller.user, session.session_id).await?;
    Ok(web::Json(SessionView::new(&state, summary)))
}

/// A change of a session.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateSession {
    /// The new title, 1 to 200 characters.
    title: String,
}

/// Renames a session.
#[utoipa::path(
    operation_id = "update_session", tag = "sessions",
    params(
        ("session_id" = SessionId, Path, description = "The session"),
        ("idempotency-key" = Option<String>, Header, description = "Requests with the same key are executed once"),
    ),
    request_body = UpdateSession,
    responses(
        (status = 200, description = "The session", body = SessionView),
        UpdateSessionErrors,
    )
)]
#[patch("/sessions/{session_id}")]
pub(super) async fn update_session(
    state: web::Data<ApiState>,
    caller: Caller<CanWrite>,
    session: SessionPath,
    key: IdempotencyKey,
    body: JsonBody<UpdateSession>,
) -> Result<web::Json<SessionView>, ProblemDetails> {
    let command_id = key.into_command_id();
    let command = title_command(&caller.user, command_id.clone(), &body.0.title)?;
    state
        .sessions
        .apply_command(session.session_id, command, |event| event.body.command_id() == Some(&command_id))
        .await?;
    let summary = state.sessions.get_session(&caller.user, session.session_id).await?;
    Ok(web::Json(SessionView::new(&state, summary)))
}

/// Deletes a session and all of its data. A run in progress is aborted.
#[utoipa::path(
    operation_id = "delete_session", tag = "sessions",
    params(("session_id" = SessionId, Path, description = "The session")),
    responses(
        (status = 204, description = "The session is deleted"),
        DeleteSessionErrors,
    )
)]
#[delete("/sessions/{session_id}")]
pub(super) async fn delete_session(
    state: web::Data<ApiState>,
    caller: Caller<CanWrite>,
    session: SessionPath,
) -> Result<HttpResponse, ProblemDetails> {
    state.sessions.delete_session(&caller.user, session.session_id).await?;
    Ok(HttpResponse::NoContent().finish())
}
