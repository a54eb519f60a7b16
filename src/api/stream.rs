//! Frames as a response body: SSE and NDJSON, from one cursor.

use std::{convert::Infallible, sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{self, Bytes},
};
use futures_util::{Stream, stream};
use prometheus::IntGauge;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Api, Code, Problem};
use crate::session::{
    Cursor, Frame, Hello, Message, MessageId, PROTOCOL, RunId, SessionId, StoreError, Transient, UserId,
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
    /// At the newest event of now.
    CaughtUp,
    /// With the end of the run that answers this message; frames of nothing else are shown.
    RunEnds(RunId, MessageId),
}

/// Whether the client's `Accept` names `media` before anything else that we could answer with.
pub(super) fn accepts(request: &HttpRequest, media: &str) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.split(',').any(|part| part.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case(media)))
}

/// The first frame of a stream.
pub(super) async fn hello(api: &Api, user: &UserId, session: SessionId) -> Result<Frame, Problem> {
    let summary = api.sessions.get(user, session).await?;
    let oldest_seq = api.sessions.oldest_seq(session).await?;
    Ok(Frame::Transient(Transient::Hello(Hello {
        protocol: PROTOCOL,
        session_id: session,
        last_seq: summary.last_seq,
        oldest_seq,
        status: api.status(&summary),
    })))
}

/// Opens a cursor for a client, with the frame that its stream begins with.
pub(super) async fn open(
    api: &Api,
    user: &UserId,
    session: SessionId,
    after: u64,
    snapshot: bool,
) -> Result<(Frame, Cursor), Problem> {
    let mut cursor = api.sessions.watch(user, session, after).await?;
    let hello = hello(api, user, session).await?;
    let Frame::Transient(Transient::Hello(Hello { last_seq, .. })) = &hello else { unreachable!("it is a hello") };
    if after > *last_seq {
        let detail =
            format!("after={after} is beyond the newest event, {last_seq}; use the seq of an event that was received");
        return Err(Problem::new(Code::CursorBeyondHead, detail));
    }
    if snapshot {
        cursor.begin_with_snapshot().await?;
    }
    Ok((hello, cursor))
}

/// A gauge that is one higher as long as this lives.
pub(super) struct OpenStream(IntGauge);

impl OpenStream {
    pub(super) fn new(api: &Api) -> Self {
        api.metrics.streams.inc();
        Self(api.metrics.streams.clone())
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The response that carries a stream.
pub(super) fn respond(
    api: &web::Data<Api>,
    first: Option<Frame>,
    cursor: Cursor,
    format: Format,
    until: Until,
) -> HttpResponse {
    let writer =
        Writer { first, cursor, format, until, halt: api.halt.clone(), ended: false, _open: OpenStream::new(api) };
    let content_type = match format {
        Format::Sse => "text/event-stream",
        Format::Ndjson => "application/x-ndjson",
    };
    HttpResponse::Ok()
        .content_type(content_type)
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // nginx would hold pieces back otherwise.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(writer.into_stream())
}

struct Writer {
    first: Option<Frame>,
    cursor: Cursor,
    format: Format,
    until: Until,
    halt: CancellationToken,
    ended: bool,
    _open: OpenStream,
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
    async fn frame(&mut self, piece: &mut String) -> Option<Frame> {
        let next = async {
            if self.until == Until::CaughtUp { self.cursor.next_logged().await } else { self.cursor.next().await }
        };
        let next = tokio::select! {
            next = timeout(KEEP_ALIVE, next) => next,
            () = self.halt.cancelled() => Ok(Ok(None)),
        };
        match next {
            Ok(Ok(Some(frame))) => return Some(frame),
            Ok(Ok(None)) => self.ended = true,
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

    fn write(&mut self, frame: &Frame, piece: &mut String) {
        if let Until::RunEnds(run_id, message_id) = self.until {
            match frame {
                Frame::Transient(Transient::Hello(_) | Transient::Gap(_)) => {}
                // The log was cut back since the message was sent; perhaps the run's end is in what was cut.
                Frame::Transient(Transient::Snapshot(snapshot)) => {
                    let begun = |m: &Arc<Message>| matches!(m.as_ref(), Message::User(m) if m.message_id == message_id);
                    self.ended = snapshot.open_run != Some(run_id) && snapshot.messages.iter().any(begun);
                }
                frame if frame.run_id() != Some(run_id) => return,
                Frame::Event(event) => self.ended = event.body.ends_run(),
                Frame::Transient(_) => {}
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
