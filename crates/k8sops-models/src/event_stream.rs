//! From the bytes of a response to events (server-sent events or JSON lines), with limits on time and size.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use eventsource_stream::{Event, EventStream, EventStreamError};
use futures_util::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::time::timeout;

use crate::{ModelError, error_mapping::ProviderCall};

/// The byte order mark of UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";
/// The size limit of an event. Without it, a server that never ends an event would exhaust the memory.
const MAX_EVENT_BYTES: usize = 8 << 20;
/// The size limit of a stream: far more than any reply needs (about 300 bytes per token).
const MAX_STREAM_BYTES: usize = 256 << 20;
/// How long to wait for the end of a stream whose reply is complete.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(5);

/// An error of the transport.
type TransportError = Box<dyn Error + Send + Sync>;

/// Why the byte stream failed.
#[derive(Debug)]
enum StreamFailure {
    /// The connection broke.
    Disconnected(TransportError),
    /// No bytes arrived within the read timeout.
    ReadTimeout,
    /// A size limit was exceeded.
    TooLarge,
}

/// Removes byte order marks at the beginning of a stream, because the parser panics at one.
#[derive(Default)]
struct ByteOrderMarkStripper {
    is_done: bool,
    /// Bytes that may be part of a byte order mark.
    held: Vec<u8>,
}

impl ByteOrderMarkStripper {
    fn strip_mark(&mut self, piece: Bytes) -> Bytes {
        if self.is_done {
            return piece;
        }
        let bytes = [self.held.as_slice(), &piece].concat();
        let mut rest = bytes.as_slice();
        while let Some(after) = rest.strip_prefix(BOM) {
            rest = after;
        }
        if BOM.starts_with(rest) {
            self.held = rest.to_vec();
            return Bytes::new();
        }
        self.is_done = true;
        Bytes::copy_from_slice(rest)
    }
}

/// How a stream is divided into events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventFraming {
    /// Server-sent events.
    Sse,
    /// One JSON value per line (NDJSON), which becomes the data of an event. A single value without a line end is an
    /// event, too.
    Lines,
}

impl EventFraming {
    /// Returns whether a stream of this kind can start with these bytes.
    pub(crate) fn may_start_with(self, bytes: &[u8]) -> bool {
        let bytes = bytes.strip_prefix(BOM).unwrap_or(bytes).trim_ascii_start();
        let words: &[&[u8]] = match self {
            Self::Sse => &[b"data:", b"event:", b"id:", b"retry:", b":"],
            Self::Lines => &[b"{"],
        };
        words.iter().any(|word| bytes.starts_with(word))
    }
}

/// The events of one response.
pub(crate) struct ProviderEventStream {
    events: BoxStream<'static, Result<Event, EventStreamError<StreamFailure>>>,
    /// Bytes read since the last event. The counter is shared with the byte stream inside the parser. One task polls
    /// both, so that it is never contended.
    since_event: Arc<AtomicUsize>,
    read_timeout: Duration,
    call: ProviderCall,
}

impl ProviderEventStream {
    /// Creates a stream of the events in `bytes`. It fails if no bytes arrive for `read_timeout`.
    pub(crate) fn new(
        bytes: impl Stream<Item = Result<Bytes, TransportError>> + Send + 'static,
        framing: EventFraming,
        read_timeout: Duration,
        call: ProviderCall,
    ) -> Self {
        let since_event = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&since_event);
        let start = (Box::pin(bytes), 0, counter, ByteOrderMarkStripper::default());
        let limited = stream::unfold(start, move |(mut bytes, total, counter, mut marks)| async move {
            let item = match timeout(read_timeout, bytes.next()).await {
                Err(_) => Err(StreamFailure::ReadTimeout),
                Ok(None) => return None,
                Ok(Some(Err(error))) => Err(StreamFailure::Disconnected(error)),
                Ok(Some(Ok(piece))) => Ok(piece),
            };
            let len = item.as_ref().map_or(0, Bytes::len);
            let event = counter.fetch_add(len, Ordering::Relaxed) + len;
            let total = total + len;
            let item =
                if event > MAX_EVENT_BYTES || total > MAX_STREAM_BYTES { Err(StreamFailure::TooLarge) } else { item };
            let item = item.map(|piece| marks.strip_mark(piece));
            Some((item, (bytes, total, counter, marks)))
        });
        let events = match framing {
            EventFraming::Sse => EventStream::new(limited.boxed()).boxed(),
            EventFraming::Lines => split_lines(limited.boxed()).boxed(),
        };
        Self { events, since_event, read_timeout, call }
    }

    /// Returns the next event, or `None` at the regular end of the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, ModelError> {
        match self.events.next().await {
            None => Ok(None),
            Some(Ok(event)) => {
                self.since_event.store(0, Ordering::Relaxed);
                Ok(Some(event))
            }
            Some(Err(EventStreamError::Transport(StreamFailure::Disconnected(error)))) => {
                Err(self.call.broken_connection_error(error))
            }
            Some(Err(EventStreamError::Transport(StreamFailure::ReadTimeout))) => {
                Err(self.call.read_timeout_error(self.read_timeout))
            }
            Some(Err(EventStreamError::Transport(StreamFailure::TooLarge))) => {
                Err(self.call.malformed_error("it exceeds the size limit"))
            }
            Some(Err(EventStreamError::Utf8(_))) => Err(self.call.malformed_error("it is not UTF-8")),
            Some(Err(EventStreamError::Parser(_))) => Err(self.call.malformed_error("it is not a stream of events")),
        }
    }

    /// Returns the error for a connection that stayed open for `limit` without any content.
    pub(crate) fn stall_error(&self, limit: Duration) -> ModelError {
        self.call.stall_error(limit)
    }

    /// Returns the longest permitted gap between bytes.
    pub(crate) fn read_timeout(&self) -> Duration {
        self.read_timeout
    }

    /// Reads to the end if it arrives immediately. An HTTP/1.1 connection that is dropped before its last byte cannot
    /// be reused, and the next call would pay for a new one, including TLS.
    pub(crate) async fn drain(&mut self) {
        let _ = timeout(DRAIN_TIMEOUT, async { while let Ok(Some(_)) = self.next().await {} }).await;
    }
}

/// Returns each line that is not blank as an event.
fn split_lines(
    bytes: BoxStream<'static, Result<Bytes, StreamFailure>>,
) -> impl Stream<Item = Result<Event, EventStreamError<StreamFailure>>> + Send {
    struct LineSplitter {
        bytes: Option<BoxStream<'static, Result<Bytes, StreamFailure>>>,
        buffer: BytesMut,
        /// The length of the part that contains no line end.
        searched: usize,
    }

    let start = LineSplitter { bytes: Some(bytes), buffer: BytesMut::new(), searched: 0 };
    stream::unfold(start, |mut state| async move {
        loop {
            let end =
                state.buffer[state.searched..].iter().position(|byte| *byte == b'\n').map(|at| at + state.searched);
            let line = match (end, &mut state.bytes) {
                (Some(end), _) => state.buffer.split_to(end + 1),
                (None, None) if state.buffer.is_empty() => return None,
                // The last line may have no line end.
                (None, None) => state.buffer.split(),
                (None, Some(bytes)) => {
                    state.searched = state.buffer.len();
                    match bytes.next().await {
                        Some(Ok(piece)) => state.buffer.extend_from_slice(&piece),
                        Some(Err(failure)) => return Some((Err(EventStreamError::Transport(failure)), state)),
                        None => state.bytes = None,
                    }
                    continue;
                }
            };
            state.searched = 0;
            match String::from_utf8(line.to_vec()) {
                Err(error) => return Some((Err(EventStreamError::Utf8(error)), state)),
                Ok(line) if line.trim().is_empty() => {}
                Ok(line) => return Some((Ok(Event { data: line.trim().to_owned(), ..Event::default() }), state)),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::test_call;

    const GAP: Duration = Duration::from_secs(30);

    async fn events(pieces: Vec<Result<Vec<u8>, TransportError>>) -> Result<Vec<String>, ModelError> {
        framed(pieces, EventFraming::Sse).await
    }

    async fn framed(
        pieces: Vec<Result<Vec<u8>, TransportError>>,
        framing: EventFraming,
    ) -> Result<Vec<String>, ModelError> {
        let bytes = stream::iter(pieces.into_iter().map(|piece| piece.map(Bytes::from)));
        let mut events = ProviderEventStream::new(bytes, framing, GAP, test_call());
        let mut data = Vec::new();
        while let Some(event) = events.next().await? {
            data.push(event.data);
        }
        Ok(data)
    }

    #[tokio::test]
    async fn sse_events_are_independent_of_chunk_boundaries() {
        let body = ": hello\r\n\r\ndata: {\"a\":\"é😀\"}\r\n\r\ndata:b\n\nevent: x\ndata: c\ndata: d\n\n".as_bytes();
        let whole = events(vec![Ok(body.to_vec())]).await.unwrap();
        assert_eq!(whole, ["{\"a\":\"é😀\"}", "b", "c\nd"]);
        for at in 1..body.len() {
            assert_eq!(events(vec![Ok(body[..at].to_vec()), Ok(body[at..].to_vec())]).await.unwrap(), whole, "{at}");
        }
        assert_eq!(events(body.iter().map(|byte| Ok(vec![*byte])).collect()).await.unwrap(), whole);
    }

    #[tokio::test]
    async fn json_lines_are_independent_of_chunk_boundaries() {
        let body = "{\"a\":\"é😀\"}\r\n\n  \n{}\n[\"the last has no end\"]".as_bytes();
        let whole = framed(vec![Ok(body.to_vec())], EventFraming::Lines).await.unwrap();
        assert_eq!(whole, ["{\"a\":\"é😀\"}", "{}", "[\"the last has no end\"]"]);
        for size in 1..body.len() {
            let pieces = body.chunks(size).map(|piece| Ok(piece.to_vec())).collect();
            assert_eq!(framed(pieces, EventFraming::Lines).await.unwrap(), whole, "{size}");
        }
        let cut = framed(vec![Ok(b"{}\n{".to_vec()), Err("reset by peer".into())], EventFraming::Lines).await;
        assert!(matches!(&cut, Err(ModelError::Network(m)) if m.message().contains("reset by peer")), "{cut:?}");
        let latin1 = framed(vec![Ok(b"caf\xe9\n".to_vec())], EventFraming::Lines).await;
        assert!(matches!(latin1, Err(ModelError::MalformedStream(_))), "{latin1:?}");
        let endless = (0..=8).map(|_| Ok(vec![b'x'; 1 << 20])).collect();
        let endless = framed(endless, EventFraming::Lines).await;
        assert!(matches!(endless, Err(ModelError::MalformedStream(_))), "{endless:?}");
    }

    #[tokio::test]
    async fn leading_byte_order_marks_are_stripped() {
        let body = [BOM, BOM, "data: a\n\ndata: \u{feff}b\n\n".as_bytes()].concat();
        let whole = events(vec![Ok(body.clone())]).await.unwrap();
        assert_eq!(whole, ["a", "\u{feff}b"]);
        for at in 1..body.len() {
            assert_eq!(events(vec![Ok(body[..at].to_vec()), Ok(body[at..].to_vec())]).await.unwrap(), whole, "{at}");
        }
        assert_eq!(events(body.iter().map(|byte| Ok(vec![*byte])).collect()).await.unwrap(), whole);
        // Other bytes that start like a byte order mark are passed on.
        let other = events(vec![Ok(BOM[..2].to_vec()), Ok(b"data: a\n\n".to_vec())]).await.unwrap_err();
        assert!(matches!(other, ModelError::MalformedStream(_)), "{other:?}");
    }

    #[tokio::test]
    async fn disconnect_and_invalid_utf8_are_errors() {
        let cut = events(vec![Ok(b"data: a\n\n".to_vec()), Err("reset by peer".into())]).await.unwrap_err();
        assert!(matches!(&cut, ModelError::Network(m) if m.message().contains("reset by peer")), "{cut:?}");
        let latin1 = events(vec![Ok(b"data: caf\xe9\n\n".to_vec())]).await.unwrap_err();
        assert!(matches!(latin1, ModelError::MalformedStream(_)), "{latin1:?}");
    }

    #[tokio::test]
    async fn oversized_event_is_rejected() {
        let mut pieces = vec![Ok(b"data: small\n\ndata: ".to_vec())];
        pieces.extend((0..=8).map(|_| Ok(vec![b'x'; 1 << 20])));
        let error = events(pieces).await.unwrap_err();
        assert!(matches!(error, ModelError::MalformedStream(_)), "{error:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_times_out_but_slow_bytes_do_not() {
        let start = tokio::time::Instant::now();
        let slow = stream::unfold(0, |n| async move {
            if n == 3 {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(Duration::from_secs(29)).await;
            Some((Ok(Bytes::from_static(b"data: a\n\n")), n + 1))
        });
        let mut events = ProviderEventStream::new(slow, EventFraming::Sse, GAP, test_call());
        for _ in 0..3 {
            assert!(events.next().await.unwrap().is_some());
        }
        let error = events.next().await.unwrap_err();
        assert!(matches!(&error, ModelError::Timeout(m) if m.contains("30 s")), "{error:?}");
        assert_eq!(start.elapsed().as_secs(), 3 * 29 + 30);
    }
}
