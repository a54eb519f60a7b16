//! `/v1/sessions/{session_id}/events`: the log of a session, replayed and live, as SSE or NDJSON.

use actix_web::{HttpRequest, HttpResponse, get, web};
use k8sops_core::SessionId;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    caller::Caller,
    error_responses::document_errors,
    event_stream::{EventStream, StreamEnd, StreamFormat, StreamGuard, StreamStart, open_cursor},
    extractors::{QueryParameters, SessionPath},
    negotiation::{NDJSON, SSE, preferred_media_type},
    problem::ProblemDetails,
    state::ApiState,
};

document_errors!(
    StreamEventsErrors: InvalidRequest, CursorBeyondHead, SessionNotFound, SessionDamaged, TooManyStreams,
    StoreUnavailable, Overloaded
);

/// Where the stream starts and ends.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventStreamQuery {
    /// Start with the first event after this seq. 0 starts with the oldest event that is kept. The header `Last-Event-ID` takes
    /// precedence. After the seq of an event that the store has lost, the stream starts with `gap` and `snapshot`.
    #[serde(default)]
    #[param(default = 0)]
    after: u64,
    /// Whether the stream continues with live events. The default is true for SSE and false for NDJSON.
    #[serde(default)]
    // A page that sends the example shows an answer that ends.
    #[param(example = false)]
    follow: Option<bool>,
    /// Start with a `snapshot` of the whole session and continue with the events after it.
    #[serde(default)]
    #[param(default = false)]
    snapshot: bool,
}

/// Streams the events of a session after a cursor, and then live events.
///
/// The format is SSE, unless `Accept` prefers `application/x-ndjson`. Logged events have their seq as `id`, so that an
/// `EventSource` of a browser resumes at the right position after a reconnect.
#[utoipa::path(
    operation_id = "stream_events", tag = "events",
    params(
        ("session_id" = SessionId, Path, description = "The session"),
        EventStreamQuery,
        ("last-event-id" = Option<u64>, Header, description = "As `after`; browsers send it when they reconnect"),
    ),
    responses(
        (status = 200, description = "Events, one per SSE message or line", content(
            (String = "text/event-stream"),
            (String = "application/x-ndjson"),
        )),
        StreamEventsErrors
    )
)]
#[get("/sessions/{session_id}/events")]
pub(super) async fn stream_events(
    request: HttpRequest,
    state: web::Data<ApiState>,
    caller: Caller,
    session: SessionPath,
    QueryParameters(query): QueryParameters<EventStreamQuery>,
) -> Result<HttpResponse, ProblemDetails> {
    let last_event_id = request.headers().get("last-event-id").filter(|value| !value.is_empty());
    let after = match last_event_id {
        Some(value) => value.to_str().ok().and_then(|v| v.trim().parse().ok()).ok_or_else(|| {
            ProblemDetails::invalid("invalid header Last-Event-ID: expected the id of a received event, a number")
        })?,
        None => query.after,
    };
    let format =
        if preferred_media_type(&request, &[SSE, NDJSON]) == NDJSON { StreamFormat::Ndjson } else { StreamFormat::Sse };
    let end =
        if query.follow.unwrap_or(format == StreamFormat::Sse) { StreamEnd::Never } else { StreamEnd::NewestEvent };
    let guard = StreamGuard::new(&state, &caller.identity)?;
    let start = StreamStart { after, snapshot: query.snapshot, is_repeated: last_event_id.is_some() };
    let (hello, cursor) = open_cursor(&state, &caller.user, session.session_id, start).await?;
    Ok(EventStream { guard, hello, cursor, format, end }.into_response(&state))
}
