//! `/v1/events`: what changes of the caller's sessions, and of what waits for the caller, as SSE, NDJSON or a WebSocket.

use std::convert::Infallible;

use actix_web::{
    HttpRequest, HttpResponse, get,
    http::header,
    web::{self, Bytes},
};
use futures_util::{Stream, stream};
use k8sops_core::Timestamp;
use k8sops_telemetry::{OpenStreamGuard, StreamKind};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    account_feed::{AccountFeed, AccountOutput, StreamExtent},
    caller::Caller,
    error_responses::document_errors,
    event_stream::StreamFormat,
    extractors::QueryParameters,
    negotiation::{NDJSON, SSE, preferred_media_type},
    problem::ProblemDetails,
    state::ApiState,
    ws::open_account_socket,
    ws_handshake::is_handshake,
};

document_errors!(StreamAccountErrors: InvalidRequest, TooManyStreams, StoreUnavailable, Overloaded);

/// Where the stream starts and ends.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AccountStreamQuery {
    /// Start with the changes after this `cursor` of a received frame. By default the stream starts now. The header
    /// `Last-Event-ID` takes precedence.
    #[serde(default)]
    after: Option<String>,
    /// Whether the stream continues with live changes. The default is true for SSE and a WebSocket, and false for NDJSON.
    #[serde(default)]
    // A page that sends the example shows an answer that ends.
    #[param(example = false)]
    follow: Option<bool>,
}

/// Streams what changes of the caller's sessions: `session_created`, `title_changed`, `run_started`, `run_finished`, `run_failed`,
/// `approval_requested`, `approval_resolved`, `input_requested` and `input_resolved` as they are logged, `session_deleted` and
/// `message_queued`.
///
/// Each frame has a `cursor`, from which a later stream continues on any replica: it may repeat frames of the last seconds, which
/// `session_id` and `seq` tell, and misses none. `hello` lists what waits for the caller. `gap` says that the lists have to be
/// read again. Callers who answer approvals in the sessions of others get these approvals, too.
///
/// With a WebSocket handshake the same frames are sent as text frames. A browser authenticates it with a ticket, or offers the
/// sub-protocols `k8sops.v1` and `bearer.TOKEN`. It accepts no commands.
#[utoipa::path(
    operation_id = "stream_account", tag = "events",
    params(
        AccountStreamQuery,
        ("last-event-id" = Option<String>, Header, description = "As `after`; browsers send it when they reconnect"),
    ),
    responses(
        (status = 200, description = "Changes, one per SSE message or line", content(
            (String = "text/event-stream"),
            (String = "application/x-ndjson"),
        )),
        (status = 101, description = "The WebSocket is open, if the request is a handshake"),
        StreamAccountErrors
    )
)]
#[get("/events")]
pub(super) async fn stream_account(
    request: HttpRequest,
    state: web::Data<ApiState>,
    caller: Caller,
    QueryParameters(query): QueryParameters<AccountStreamQuery>,
) -> Result<HttpResponse, ProblemDetails> {
    let last_event_id = request.headers().get("last-event-id").and_then(|value| value.to_str().ok());
    let after = last_event_id.filter(|value| !value.is_empty()).map(str::to_owned).or(query.after);
    let after = after.map(|cursor| parse_cursor(&cursor)).transpose()?;
    let extent = |follows: bool| if follows { StreamExtent::Live } else { StreamExtent::Known };
    if is_handshake(&request) {
        let feed = AccountFeed::open(&state, &caller, after, extent(query.follow.unwrap_or(true))).await?;
        return open_account_socket(&request, &state, feed);
    }
    let format =
        if preferred_media_type(&request, &[SSE, NDJSON]) == NDJSON { StreamFormat::Ndjson } else { StreamFormat::Sse };
    let follows = query.follow.unwrap_or(format == StreamFormat::Sse);
    let feed = AccountFeed::open(&state, &caller, after, extent(follows)).await?;
    let counted = state.metrics.track_stream(match format {
        StreamFormat::Sse => StreamKind::Sse,
        StreamFormat::Ndjson => StreamKind::Ndjson,
    });
    let writer = AccountWriter { feed, format, is_begun: false, _counted: counted };
    let content_type = match format {
        StreamFormat::Sse => SSE,
        StreamFormat::Ndjson => NDJSON,
    };
    Ok(HttpResponse::Ok()
        .content_type(content_type)
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // Otherwise nginx buffers the stream.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(writer.into_chunks()))
}

/// A cursor is the time of a change, in milliseconds since 1970.
fn parse_cursor(cursor: &str) -> Result<Timestamp, ProblemDetails> {
    let millis = cursor.trim().parse().ok().filter(|millis| *millis >= 0);
    millis.map(Timestamp::from_millis).ok_or_else(|| {
        ProblemDetails::invalid("invalid cursor: expected the `cursor` of a received frame, a number of milliseconds")
    })
}

/// Writes a feed as the body of a response.
struct AccountWriter {
    feed: AccountFeed,
    format: StreamFormat,
    is_begun: bool,
    _counted: OpenStreamGuard,
}

impl AccountWriter {
    fn into_chunks(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        stream::unfold(Box::new(self), |mut writer| async move {
            let chunk = writer.next_chunk().await?;
            Some((Ok(Bytes::from(chunk)), writer))
        })
    }

    /// Returns the next bytes of the body, or `None` at its end.
    async fn next_chunk(&mut self) -> Option<String> {
        let output = self.feed.next().await?;
        let chunk = match (self.format, output) {
            (StreamFormat::Sse, AccountOutput::Quiet) => ": keep-alive\n\n".to_owned(),
            // Without an empty line a client that is gone is not noticed.
            (StreamFormat::Ndjson, AccountOutput::Quiet) => "\n".to_owned(),
            (StreamFormat::Ndjson, AccountOutput::Frame(frame)) => frame.json + "\n",
            (StreamFormat::Sse, AccountOutput::Frame(frame)) => {
                let id = frame.cursor.map(|cursor| format!("id: {cursor}\n")).unwrap_or_default();
                // How long a browser waits before it reconnects, in milliseconds.
                let retry = if std::mem::replace(&mut self.is_begun, true) { "" } else { "retry: 1000\n\n" };
                format!("{retry}{id}event: {}\ndata: {}\n\n", frame.kind, frame.json)
            }
        };
        Some(chunk)
    }
}
