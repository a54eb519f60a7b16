//! Streams the events of a session as a response body: SSE or NDJSON.

use std::{convert::Infallible, future::pending, sync::Arc, time::Duration};

use actix_web::{HttpResponse, http::header, web::Bytes};
use backon::{BackoffBuilder as _, ConstantBuilder};
use futures_util::{
    FutureExt as _, Stream, StreamExt as _,
    future::{BoxFuture, join},
    stream::{self, FuturesUnordered},
};
use k8sops_core::{
    ChatMessage, ErrorChain, EventCursor, FrameDetail, GapReason, LazyDeadline, MessageId, PROTOCOL_VERSION, RunId,
    SessionId, SessionWarning, StoreError, StreamFrame, StreamHello, TransientEvent, UserId,
};
use k8sops_telemetry::{OpenStreamGuard, StreamKind};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    client_cursor::{ClientCursor, StreamForm},
    long_response::{PIECE_BYTES, StreamPacer, encode_snapshot, is_snapshot},
    negotiation::{NDJSON, SSE},
    problem::{DAMAGE_ADVICE, ProblemDetails, log_damage},
    problem_code::ProblemCode,
    quota::StreamPermit,
    state::ApiState,
};
use crate::{auth::CallerIdentity, runtime::StoreWatch};

/// How often a quiet stream sends a sign of life. Shorter than the idle timeouts of common proxies (nginx: 60 s).
pub(super) const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Frames that are ready are combined into chunks of about this size.
pub(super) const CHUNK_BYTES: usize = 16 * 1024;
/// The memory for a chunk at first: a token fits, and needs no second allocation.
const SMALL_CHUNK_BYTES: usize = 256;
/// The minimum delay before a read from an unavailable store is retried. Jitter adds up to the same again.
const STORE_RETRY_DELAY: Duration = Duration::from_millis(600);

/// Waits before a read from an unavailable store is retried. The delay is random, so that the streams of a replica do not all
/// retry at the same moment.
pub(super) async fn wait_for_store_retry() {
    let mut delays = ConstantBuilder::default().with_delay(STORE_RETRY_DELAY).with_jitter().build();
    sleep(delays.next().unwrap_or(STORE_RETRY_DELAY)).await;
}

/// Returns the last frame of a stream that cannot be read further, and logs why.
pub(super) fn damage_warning(error: &StoreError) -> StreamFrame {
    let error = ErrorChain(error).to_string();
    log_damage(&error);
    let message = format!("the session's log cannot be read further: {error}; {DAMAGE_ADVICE}");
    StreamFrame::Transient(TransientEvent::Warning(SessionWarning::new("session_damaged", message)))
}

/// The format of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamFormat {
    /// `text/event-stream`.
    Sse,
    /// `application/x-ndjson`.
    Ndjson,
}

/// Where a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamEnd {
    /// The stream follows the session until the client disconnects.
    Never,
    /// The stream ends at the event that is the newest when it starts.
    NewestEvent,
    /// The stream contains only frames of the run that answers this message, and ends with that run.
    RunEnd(RunId, MessageId),
}

/// Returns the first frame of a stream.
pub(super) async fn hello_frame(
    state: &ApiState,
    user: &UserId,
    session: SessionId,
) -> Result<StreamFrame, ProblemDetails> {
    Ok(StreamFrame::Transient(TransientEvent::Hello(stream_hello(state, user, session).await?)))
}

async fn stream_hello(state: &ApiState, user: &UserId, session: SessionId) -> Result<StreamHello, ProblemDetails> {
    let (summary, oldest_seq) =
        join(state.sessions.get_session(user, session), state.sessions.oldest_seq(session)).await;
    // First, whether the session is the user's.
    let summary = summary?;
    let oldest_seq = oldest_seq?;
    Ok(StreamHello {
        protocol: PROTOCOL_VERSION,
        session_id: session,
        last_seq: summary.last_seq,
        oldest_seq,
        status: state.session_status(&summary),
    })
}

/// Where a stream starts.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamStart {
    /// The stream starts with the first event after this seq.
    pub(super) after: u64,
    /// Whether a snapshot of the session replaces the events up to now.
    pub(super) snapshot: bool,
    /// Whether the client did not choose the seq: a browser repeats the last one that it saw (`Last-Event-ID`), and gives up at an
    /// error.
    pub(super) is_repeated: bool,
}

/// Opens a cursor for a client. Also returns the first frame of its stream.
pub(super) async fn open_cursor(
    state: &ApiState,
    user: &UserId,
    session: SessionId,
    start: StreamStart,
) -> Result<(StreamFrame, EventCursor), ProblemDetails> {
    let StreamStart { after, snapshot, is_repeated } = start;
    let mut cursor = state.sessions.open_cursor(user, session, after).await?;
    let hello = stream_hello(state, user, session).await?;
    let last_seq = hello.last_seq;
    if after > last_seq {
        // A store that processes share may have lost the event in a failover. Otherwise the client is wrong.
        if !is_repeated && state.store.notifications().is_none() {
            let detail = format!(
                "after={after} is beyond the newest event, which is {last_seq}; use the seq of a received event"
            );
            return Err(ProblemDetails::new(ProblemCode::CursorBeyondHead, detail));
        }
        cursor.start_after_truncation().await?;
    } else if snapshot {
        cursor.start_with_snapshot().await?;
    }
    Ok((StreamFrame::Transient(TransientEvent::Hello(hello)), cursor))
}

/// Why a stream is ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamStop {
    /// The service shuts down.
    Shutdown,
    /// The credentials of the client are no longer valid.
    CredentialsExpired,
}

/// Guards a stream of a user: holds its permit, and notices when it must end.
pub(super) struct StreamGuard {
    /// One future. It is polled only when it is woken, and not for every token: the signal of the shutdown has a lock that all
    /// streams share.
    stop: FuturesUnordered<BoxFuture<'static, StreamStop>>,
    _permit: StreamPermit,
}

impl StreamGuard {
    /// Reserves one more stream of a user.
    pub(super) fn new(state: &ApiState, caller: &CallerIdentity) -> Result<Self, ProblemDetails> {
        let permit = state.quota.acquire_stream(&caller.user)?;
        let (shutdown, expired) = (state.shutdown.clone(), caller.expired());
        let stop = async move {
            tokio::select! {
                () = shutdown.cancelled() => StreamStop::Shutdown,
                () = expired => StreamStop::CredentialsExpired,
            }
        };
        Ok(Self { stop: std::iter::once(stop.boxed()).collect(), _permit: permit })
    }

    /// Resolves when the stream must end. It must not be called again after that.
    pub(super) async fn stopped(&mut self) -> StreamStop {
        match self.stop.next().await {
            Some(stop) => stop,
            None => pending().await,
        }
    }
}

/// Everything that a stream needs besides the state.
pub(super) struct EventStream {
    pub(super) guard: StreamGuard,
    pub(super) hello: StreamFrame,
    pub(super) cursor: EventCursor,
    pub(super) form: StreamForm,
    pub(super) format: StreamFormat,
    pub(super) end: StreamEnd,
}

impl EventStream {
    /// Returns the response that carries the stream.
    pub(super) fn into_response(self, state: &ApiState) -> HttpResponse {
        let Self { guard, hello, cursor, form, format, end } = self;
        let counted = state.metrics.track_stream(match format {
            StreamFormat::Sse => StreamKind::Sse,
            StreamFormat::Ndjson => StreamKind::Ndjson,
        });
        let shutdown = state.shutdown.clone();
        let first = Some(hello);
        let writer = StreamWriter {
            first,
            cursor: ClientCursor::new(cursor, form),
            detail: form.detail,
            format,
            end,
            shutdown,
            ended: false,
            has_lost_events: false,
            keep_alive: LazyDeadline::new(),
            has_begun: false,
            store_watch: state.sessions.watch_store(),
            guard,
            unsent: Bytes::new(),
            pacer: StreamPacer::default(),
            _counted: counted,
        };
        let content_type = match format {
            StreamFormat::Sse => SSE,
            StreamFormat::Ndjson => NDJSON,
        };
        HttpResponse::Ok()
            .content_type(content_type)
            .insert_header((header::CACHE_CONTROL, "no-store"))
            // Otherwise nginx buffers the stream.
            .insert_header(("x-accel-buffering", "no"))
            .streaming(writer.into_chunks())
    }
}

struct StreamWriter {
    first: Option<StreamFrame>,
    cursor: ClientCursor,
    detail: FrameDetail,
    format: StreamFormat,
    end: StreamEnd,
    shutdown: CancellationToken,
    ended: bool,
    /// The store has lost events since the stream began.
    has_lost_events: bool,
    keep_alive: LazyDeadline,
    /// An event of the run that the stream follows was sent.
    has_begun: bool,
    store_watch: StoreWatch,
    guard: StreamGuard,
    /// The rest of a chunk that is longer than what is sent at once.
    unsent: Bytes,
    pacer: StreamPacer,
    _counted: OpenStreamGuard,
}

impl StreamWriter {
    fn into_chunks(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        // Boxed, because the state is moved with every chunk.
        stream::unfold(Box::new(self), |mut writer| async move {
            if writer.unsent.is_empty() {
                writer.unsent = writer.next_chunk().await?;
            }
            let length = writer.unsent.len().min(PIECE_BYTES);
            writer.pacer.pause_after(length).await;
            Some((Ok(writer.unsent.split_to(length)), writer))
        })
    }

    /// Returns the next bytes of the body, or `None` at its end.
    async fn next_chunk(&mut self) -> Option<Bytes> {
        let mut chunk = Vec::with_capacity(SMALL_CHUNK_BYTES);
        if let Some(first) = self.first.take() {
            if self.format == StreamFormat::Sse {
                // How long a browser waits before it reconnects, in milliseconds.
                chunk.extend(b"retry: 1000\n\n");
            }
            self.write_frame(&first, None, &mut chunk);
        }
        while !self.ended && (chunk.is_empty() || (self.cursor.has_ready_frame() && chunk.len() < CHUNK_BYTES)) {
            if let Some(frame) = self.next_frame(&mut chunk).await {
                if is_snapshot(&frame) {
                    let (frame, json) = encode_snapshot(frame, self.detail).await;
                    self.write_frame(&frame, Some(&json), &mut chunk);
                } else {
                    self.write_frame(&frame, None, &mut chunk);
                }
            }
        }
        (!chunk.is_empty()).then(|| Bytes::from(chunk))
    }

    /// Returns the next frame, or `None` if a keep-alive was written or the stream has ended.
    async fn next_frame(&mut self, chunk: &mut Vec<u8>) -> Option<StreamFrame> {
        let next = async {
            match self.end {
                StreamEnd::NewestEvent => self.cursor.next_logged().await,
                StreamEnd::Never | StreamEnd::RunEnd(..) => self.cursor.next().await,
            }
        };
        let next = tokio::select! {
            next = self.keep_alive.wait_until(Instant::now() + KEEP_ALIVE_INTERVAL, next) => next,
            stop = self.guard.stopped() => match stop {
                StreamStop::Shutdown => Some(Ok(None)),
                StreamStop::CredentialsExpired => {
                    self.ended = true;
                    return Some(StreamFrame::Transient(TransientEvent::Warning(SessionWarning::new(
                        "unauthenticated",
                        "the key or token is no longer valid; reconnect with a valid one",
                    ))));
                }
            },
        };
        match next {
            Some(Ok(Some(frame))) => {
                self.store_watch.record_success();
                return Some(frame);
            }
            Some(Ok(None)) => {
                self.ended = true;
                // Without this warning the client would try to reconnect to a session that does not exist anymore.
                if self.end != StreamEnd::NewestEvent && !self.shutdown.is_cancelled() {
                    return Some(StreamFrame::Transient(TransientEvent::Warning(SessionWarning::new(
                        "session_deleted",
                        "the session does not exist any more: it was deleted, has expired, or the store has lost it",
                    ))));
                }
            }
            Some(Err(error @ StoreError::Unavailable(_))) => {
                self.store_watch.record_failure(&error);
                wait_for_store_retry().await;
            }
            Some(Err(error)) => {
                self.ended = true;
                // Without this warning the stream would look complete.
                return Some(damage_warning(&error));
            }
            None if self.format == StreamFormat::Sse => chunk.extend(b": keep-alive\n\n"),
            // NDJSON parsers skip empty lines. Without them a client that is gone is not noticed.
            None => chunk.push(b'\n'),
        }
        None
    }

    /// Writes a frame, whose JSON may be there already.
    fn write_frame(&mut self, frame: &StreamFrame, json: Option<&str>, chunk: &mut Vec<u8>) {
        let mut is_message_lost = false;
        if let StreamEnd::RunEnd(run_id, message_id) = self.end {
            match frame {
                StreamFrame::Transient(TransientEvent::Gap(gap)) => {
                    self.has_lost_events |= gap.reason == GapReason::LogTruncated;
                }
                StreamFrame::Transient(TransientEvent::Hello(_) | TransientEvent::Warning(_)) => {}
                // The log was truncated since the message was sent. The end of the run may be in the removed part.
                StreamFrame::Transient(TransientEvent::Snapshot(snapshot)) => {
                    let is_message =
                        |m: &Arc<ChatMessage>| matches!(m.as_ref(), ChatMessage::User(m) if m.message_id == message_id);
                    let has_message = snapshot.messages.iter().any(is_message);
                    is_message_lost = !has_message && self.has_lost_events;
                    self.ended = snapshot.open_run != Some(run_id) && (has_message || is_message_lost);
                }
                // Messages without known ids are lost. This one is among them if its run has not begun.
                StreamFrame::Event(event) if event.body.is_message_lost() && event.run_id.is_none() => {
                    self.ended = !self.has_begun;
                }
                frame if frame.run_id() != Some(run_id) => return,
                StreamFrame::Event(event) => {
                    self.has_begun = true;
                    self.ended = event.body.ends_run() || event.body.is_message_lost();
                }
                StreamFrame::Transient(_) => {}
            }
        }
        let write_json = |chunk: &mut Vec<u8>| match json {
            Some(json) => chunk.extend(json.as_bytes()),
            None => frame.write_json(self.detail, chunk),
        };
        match self.format {
            StreamFormat::Ndjson => {
                write_json(chunk);
                chunk.push(b'\n');
            }
            StreamFormat::Sse => {
                if let Some(seq) = frame.seq() {
                    chunk.extend(b"id: ");
                    chunk.extend(seq.to_string().as_bytes());
                    chunk.push(b'\n');
                }
                chunk.extend(b"event: ");
                chunk.extend(frame.event_type().as_bytes());
                chunk.extend(b"\ndata: ");
                write_json(chunk);
                chunk.extend(b"\n\n");
            }
        }
        if is_message_lost {
            let warning = TransientEvent::Warning(SessionWarning::message_lost(1));
            self.write_frame(&StreamFrame::Transient(warning), None, chunk);
        }
    }
}
