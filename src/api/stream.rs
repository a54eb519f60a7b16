//! Frames as a response body: SSE and NDJSON, from one cursor.

use std::{cmp::Reverse, convert::Infallible, sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, Accept, Header as _, Quality},
    web::{self, Bytes},
};
use futures_util::{FutureExt as _, Stream, future::BoxFuture, stream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{ApiState, ProblemCode, ProblemDetails, quota::StreamPermit};
use crate::auth::CallerIdentity;
use k8sops_core::{
    ChatMessage, EventCursor, MessageId, PROTOCOL, RunId, SessionId, SessionWarning, StoreError, StreamFrame,
    StreamHello, TransientEvent, UserId,
};

/// How often a quiet SSE stream says that it is alive: less than the idle limits of the usual proxies (nginx: 60 s).
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Frames are put together until a piece is this large.
const PIECE: usize = 16 * 1024;
/// The wait before a store that did not answer is asked again.
pub(super) const STORE_RETRY: Duration = Duration::from_secs(1);

/// The media type of server-sent events.
pub(super) const SSE: &str = "text/event-stream";
/// The media type of JSON in lines.
pub(super) const NDJSON: &str = "application/x-ndjson";

/// The form of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// `text/event-stream`.
    Sse,
    /// `application/x-ndjson`.
    Ndjson,
}

/// Where a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// It does not, as long as the session and the client are there.
    Forever,
    /// SpanContext the newest event of now.
    CaughtUp,
    /// With the end of the run that answers this message; frames of nothing else are shown.
    RunEnds(RunId, MessageId),
}

/// The one of the media types on offer that the client's `Accept` likes best: by its quality, then by its place in the
/// header. Where it likes none of them, the first that it does not exclude: some answer is better than 406.
pub(super) fn preferred<'a>(request: &HttpRequest, offers: &[&'a str]) -> &'a str {
    let Accept(ranges) = Accept::parse(request).unwrap_or_else(|_| Accept(Vec::new()));
    // What the most specific range says of an offer: its quality and its place.
    let liking = |offer: &str| {
        let covering = ranges.iter().enumerate().filter_map(|(place, range)| {
            let specificity = match (range.item.type_().as_str(), range.item.subtype().as_str()) {
                _ if range.item.essence_str() == offer => 2,
                (kind, "*") if offer.split('/').next() == Some(kind) => 1,
                ("*", "*") => 0,
                _ => return None,
            };
            Some((Reverse(specificity), place, range.quality))
        });
        covering
            .min_by_key(|(specificity, place, _)| (*specificity, *place))
            .map(|(_, place, quality)| (quality, place))
    };
    let allowed = offers
        .iter()
        .map(|offer| (*offer, liking(offer)))
        .filter(|(_, liking)| liking.is_none_or(|(quality, _)| quality > Quality::ZERO));
    // Ties, and all that are not named, stand in the order of the offers.
    let best = allowed.min_by_key(|(_, liking)| match liking {
        Some((quality, place)) => (Reverse(*quality), *place),
        None => (Reverse(Quality::ZERO), usize::MAX),
    });
    best.map_or(offers[0], |(offer, _)| offer)
}

/// The first frame of a stream.
pub(super) async fn hello(api: &ApiState, user: &UserId, session: SessionId) -> Result<StreamFrame, ProblemDetails> {
    let summary = api.sessions.get_session(user, session).await?;
    let oldest_seq = api.sessions.oldest_seq(session).await?;
    Ok(StreamFrame::Transient(TransientEvent::Hello(StreamHello {
        protocol: PROTOCOL,
        session_id: session,
        last_seq: summary.last_seq,
        oldest_seq,
        status: api.status(&summary),
    })))
}

/// Opens a cursor for a client, with the frame that its stream begins with.
pub(super) async fn open(
    api: &ApiState,
    user: &UserId,
    session: SessionId,
    after: u64,
    snapshot: bool,
) -> Result<(StreamFrame, EventCursor), ProblemDetails> {
    let mut cursor = api.sessions.open_cursor(user, session, after).await?;
    let hello = hello(api, user, session).await?;
    let StreamFrame::Transient(TransientEvent::Hello(StreamHello { last_seq, .. })) = &hello else {
        unreachable!("it is a hello")
    };
    if after > *last_seq {
        let detail =
            format!("after={after} is beyond the newest event, {last_seq}; use the seq of an event that was received");
        return Err(ProblemDetails::new(ProblemCode::CursorBeyondHead, detail));
    }
    if snapshot {
        cursor.begin_with_snapshot().await?;
    }
    Ok((hello, cursor))
}

/// A stream that a user holds open: it has its place, and ends when its user is not known any more.
pub(super) struct OpenStream {
    lapse: BoxFuture<'static, ()>,
    _slot: StreamPermit,
}

impl OpenStream {
    /// A place for one more stream.
    pub(super) fn new(api: &ApiState, caller: &CallerIdentity) -> Result<Self, ProblemDetails> {
        let slot = api.quota.stream(&caller.user)?;
        Ok(Self { lapse: caller.expired().boxed(), _slot: slot })
    }

    /// Returns when the caller's key or token does not hold any more. Not to be asked again after that.
    pub(super) async fn lapsed(&mut self) {
        (&mut self.lapse).await;
    }
}

/// The response that carries a stream.
pub(super) fn respond(
    api: &web::Data<ApiState>,
    open: OpenStream,
    first: Option<StreamFrame>,
    cursor: EventCursor,
    format: Format,
    until: Until,
) -> HttpResponse {
    let counted = api.metrics.track_stream(match format {
        Format::Sse => k8sops_telemetry::StreamKind::Sse,
        Format::Ndjson => k8sops_telemetry::StreamKind::Ndjson,
    });
    let writer = Writer { first, cursor, format, until, halt: api.halt.clone(), ended: false, open, _counted: counted };
    let content_type = match format {
        Format::Sse => SSE,
        Format::Ndjson => NDJSON,
    };
    HttpResponse::Ok()
        .content_type(content_type)
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // nginx would hold pieces back otherwise.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(writer.into_stream())
}

struct Writer {
    first: Option<StreamFrame>,
    cursor: EventCursor,
    format: Format,
    until: Until,
    halt: CancellationToken,
    ended: bool,
    open: OpenStream,
    _counted: k8sops_telemetry::OpenStreamGuard,
}

impl Writer {
    fn into_stream(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        stream::unfold(self, |mut writer| async move {
            let piece = writer.piece().await?;
            Some((Ok(piece), writer))
        })
    }

    /// The next bytes; `None` at the end.
    async fn piece(&mut self) -> Option<Bytes> {
        let mut piece = String::new();
        if let Some(first) = self.first.take() {
            if self.format == Format::Sse {
                // What a browser waits before it connects again.
                piece.push_str("retry: 1000\n\n");
            }
            self.write(&first, &mut piece);
        }
        while !self.ended && (piece.is_empty() || (self.cursor.has_ready() && piece.len() < PIECE)) {
            if let Some(frame) = self.frame(&mut piece).await {
                self.write(&frame, &mut piece);
            }
        }
        (!piece.is_empty()).then(|| Bytes::from(piece))
    }

    /// The next frame. `None`: a keep-alive was written, or the stream has ended.
    async fn frame(&mut self, piece: &mut String) -> Option<StreamFrame> {
        let next = async {
            if self.until == Until::CaughtUp { self.cursor.next_logged().await } else { self.cursor.next().await }
        };
        let next = tokio::select! {
            next = timeout(KEEP_ALIVE, next) => next,
            () = self.halt.cancelled() => Ok(Ok(None)),
            () = self.open.lapsed() => {
                self.ended = true;
                return Some(StreamFrame::Transient(TransientEvent::Warning(SessionWarning::new(
                    "unauthenticated",
                    "the key or token does not hold any more; connect again with another",
                ))));
            }
        };
        match next {
            Ok(Ok(Some(frame))) => return Some(frame),
            Ok(Ok(None)) => {
                self.ended = true;
                // Nobody else would say that there is nothing to come back to.
                if self.until != Until::CaughtUp && !self.halt.is_cancelled() {
                    return Some(StreamFrame::Transient(TransientEvent::Warning(SessionWarning::new(
                        "session_deleted",
                        "the session was deleted",
                    ))));
                }
            }
            Ok(Err(error @ StoreError::Unavailable(_))) => {
                tracing::warn!(%error, "a stream waits for the store");
                sleep(STORE_RETRY).await;
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "a stream ends because its log cannot be read");
                self.ended = true;
            }
            Err(_) if self.format == Format::Sse => piece.push_str(": keep-alive\n\n"),
            // A line that is no event, and that parsers of NDJSON skip: the only way to notice a client that is gone.
            Err(_) => piece.push('\n'),
        }
        None
    }

    fn write(&mut self, frame: &StreamFrame, piece: &mut String) {
        if let Until::RunEnds(run_id, message_id) = self.until {
            match frame {
                StreamFrame::Transient(
                    TransientEvent::Hello(_) | TransientEvent::Gap(_) | TransientEvent::Warning(_),
                ) => {}
                // The log was cut back since the message was sent; perhaps the run's end is in what was cut.
                StreamFrame::Transient(TransientEvent::Snapshot(snapshot)) => {
                    let begun =
                        |m: &Arc<ChatMessage>| matches!(m.as_ref(), ChatMessage::User(m) if m.message_id == message_id);
                    self.ended = snapshot.open_run != Some(run_id) && snapshot.messages.iter().any(begun);
                }
                frame if frame.run_id() != Some(run_id) => return,
                StreamFrame::Event(event) => self.ended = event.body.ends_run(),
                StreamFrame::Transient(_) => {}
            }
        }
        let json = frame.to_json();
        match self.format {
            Format::Ndjson => {
                piece.push_str(&json);
                piece.push('\n');
            }
            Format::Sse => {
                if let Some(seq) = frame.seq() {
                    piece.push_str("id: ");
                    piece.push_str(&seq.to_string());
                    piece.push('\n');
                }
                piece.push_str("event: ");
                piece.push_str(frame.kind());
                piece.push_str("\ndata: ");
                piece.push_str(&json);
                piece.push_str("\n\n");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn the_answer_is_what_the_client_likes_best() {
        let json = "application/json";
        for (accept, offers, best) in [
            ("application/json, text/event-stream", [json, SSE], json),
            ("text/event-stream, application/json", [json, SSE], SSE),
            ("text/event-stream;q=0.5, application/json;q=0.4", [json, SSE], SSE),
            ("text/event-stream; q=0.5, application/json; q=0.9", [json, SSE], json),
            ("Text/Event-Stream", [json, SSE], SSE),
            ("text/event-stream;charset=utf-8", [json, SSE], SSE),
            ("text/*", [json, SSE], SSE),
            ("text/html, text/*;q=0.1, */*;q=0.2", [json, SSE], json),
            ("*/*", [json, SSE], json),
            ("*/*, text/event-stream", [json, SSE], json),
            ("text/event-stream, */*", [json, SSE], SSE),
            ("*/*, application/json;q=0.1", [json, SSE], SSE),
            ("*/*, application/json;q=0", [json, SSE], SSE),
            ("text/event-stream;q=0", [json, SSE], json),
            ("text/event-stream;q=0", [SSE, NDJSON], NDJSON),
            ("text/event-stream;q=0, application/x-ndjson;q=0", [SSE, NDJSON], SSE),
            ("application/x-ndjson", [SSE, NDJSON], NDJSON),
            ("application/x-ndjson;q=0.1, text/event-stream", [SSE, NDJSON], SSE),
            ("text/html", [SSE, NDJSON], SSE),
            ("", [SSE, NDJSON], SSE),
            ("not a media type", [SSE, NDJSON], SSE),
        ] {
            let request = TestRequest::default().insert_header(("accept", accept)).to_http_request();
            assert_eq!(preferred(&request, &offers), best, "{accept}");
        }
        assert_eq!(preferred(&TestRequest::default().to_http_request(), &[SSE, NDJSON]), SSE);
        let twice = TestRequest::default().append_header(("accept", "text/html")).append_header(("accept", NDJSON));
        assert_eq!(preferred(&twice.to_http_request(), &[SSE, NDJSON]), NDJSON);
    }
}
