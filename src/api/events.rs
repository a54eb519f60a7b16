//! `/v1/sessions/{session_id}/events`: the log, replayed and live, as SSE or NDJSON.

use actix_web::{HttpRequest, HttpResponse, get, web};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    ApiState, ProblemDetails,
    extract::{Caller, Query, SessionPath},
    problem::document_errors,
    stream::{self, Format, OpenStream, Until},
};
use k8sops_core::SessionId;

document_errors!(StreamErrors: InvalidRequest, CursorBeyondHead, SessionNotFound, SessionDamaged, TooManyStreams, StoreUnavailable, Overloaded);

/// From where, and to where.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StartAt {
    /// Events after this seq; 0 for all that are kept. The header `Last-Event-ID` goes before it.
    #[serde(default)]
    #[param(default = 0)]
    after: u64,
    /// Whether to go on live: by default yes for SSE, no for NDJSON.
    #[serde(default)]
    follow: Option<bool>,
    /// Begin with a `snapshot` of the whole projection, and go on after it.
    #[serde(default)]
    #[param(default = false)]
    snapshot: bool,
}

/// The session's events after a cursor, then live.
///
/// SSE, unless `Accept` prefers `application/x-ndjson`. Logged events carry their seq as `id`, so that a browser's
/// `EventSource` goes on where it was after a reconnect.
#[utoipa::path(
    operation_id = "stream_events", tag = "events",
    params(
        ("session_id" = SessionId, Path, description = "The session"),
        StartAt,
        ("last-event-id" = Option<u64>, Header, description = "As `after`; sent by browsers on a reconnect"),
    ),
    responses(
        (status = 200, description = "Events, one per SSE message or line", content(
            (String = "text/event-stream"),
            (String = "application/x-ndjson"),
        )),
        StreamErrors
    )
)]
#[get("/sessions/{session_id}/events")]
pub(super) async fn follow(
    request: HttpRequest,
    api: web::Data<ApiState>,
    caller: Caller,
    session: SessionPath,
    Query(from): Query<StartAt>,
) -> Result<HttpResponse, ProblemDetails> {
    let last_event_id = request.headers().get("last-event-id").filter(|value| !value.is_empty());
    let after = match last_event_id {
        Some(value) => value.to_str().ok().and_then(|v| v.trim().parse().ok()).ok_or_else(|| {
            ProblemDetails::invalid("the header Last-Event-ID must be the id of an event that was received, a number")
        })?,
        None => from.after,
    };
    let offers = [stream::SSE, stream::NDJSON];
    let format = if stream::preferred(&request, &offers) == stream::NDJSON { Format::Ndjson } else { Format::Sse };
    let until = if from.follow.unwrap_or(format == Format::Sse) { Until::Forever } else { Until::CaughtUp };
    let open = OpenStream::new(&api, &caller.identity)?;
    let (hello, cursor) = stream::open(&api, &caller.user, session.0, after, from.snapshot).await?;
    Ok(stream::respond(&api, open, Some(hello), cursor, format, until))
}
