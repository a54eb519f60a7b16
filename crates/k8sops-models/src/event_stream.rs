//! From bytes to events to the pieces of a reply, with limits on time and size. Events are server-sent ones, or lines.

use std::{
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
/// The largest event; a server that sends more without an end would fill our memory.
const MAX_EVENT_BYTES: usize = 8 << 20;
/// The largest stream: far above any reply (some 300 bytes per token), far below what would hurt.
const MAX_STREAM_BYTES: usize = 256 << 20;
/// How long to wait for the orderly end of a stream whose reply is complete.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(5);

/// Why there are no more bytes.
#[derive(Debug)]
enum StreamFailure {
    /// The connection broke; what the transport says.
    Disconnected(String),
    /// Nothing came for the longest gap that is allowed.
    ReadTimeout,
    /// A limit on size was passed.
    TooLarge,
}

/// The beginning of a stream, where byte order marks may stand. They are taken off: the parser panics at one.
#[derive(Default)]
struct ByteOrderMarkStripper {
    over: bool,
    /// Bytes that may be a part of a mark.
    held: Vec<u8>,
}

impl ByteOrderMarkStripper {
    fn strip_mark(&mut self, piece: Bytes) -> Bytes {
        if self.over {
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
        self.over = true;
        Bytes::copy_from_slice(rest)
    }
}

/// How a stream is cut into events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventFraming {
    /// Server-sent events.
    Sse,
    /// One JSON value on each line (NDJSON), which becomes the data of an event; also a single one without any line.
    Lines,
}

impl EventFraming {
    /// Whether a stream of this kind may begin so.
    pub(crate) fn may_start_with(self, bytes: &[u8]) -> bool {
        let bytes = bytes.strip_prefix(BOM).unwrap_or(bytes).trim_ascii_start();
        let words: &[&[u8]] = match self {
            Self::Sse => &[b"data:", b"event:", b"id:", b"retry:", b":"],
            Self::Lines => &[b"{"],
        };
        words.iter().any(|word| bytes.starts_with(word))
    }
}

/// The events of one stream.
pub(crate) struct ProviderEventStream {
    events: BoxStream<'static, Result<Event, EventStreamError<StreamFailure>>>,
    /// Bytes read since the last event. Shared with the byte stream, which lies inside the parser; both are polled by one
    /// task, so the atomic is never contended.
    since_event: Arc<AtomicUsize>,
    read_timeout: Duration,
    call: ProviderCall,
}

impl ProviderEventStream {
    /// The events in `bytes`, which may not be silent for longer than `gap`. Errors of the transport come as its words.
    pub(crate) fn new(
        bytes: impl Stream<Item = Result<Bytes, String>> + Send + 'static,
        framing: EventFraming,
        read_timeout: Duration,
        call: ProviderCall,
    ) -> Self {
        let since_event = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&since_event);
        let start = (Box::pin(bytes), 0, counter, ByteOrderMarkStripper::default());
        let limited = stream::unfold(start, move |(mut bytes, total, counter, mut beginning)| async move {
            let item = match timeout(read_timeout, bytes.next()).await {
                Err(_) => Err(StreamFailure::ReadTimeout),
                Ok(None) => return None,
                Ok(Some(Err(words))) => Err(StreamFailure::Disconnected(words)),
                Ok(Some(Ok(piece))) => Ok(piece),
            };
            let len = item.as_ref().map_or(0, Bytes::len);
            let event = counter.fetch_add(len, Ordering::Relaxed) + len;
            let total = total + len;
            let item =
                if event > MAX_EVENT_BYTES || total > MAX_STREAM_BYTES { Err(StreamFailure::TooLarge) } else { item };
            let item = item.map(|piece| beginning.strip_mark(piece));
            Some((item, (bytes, total, counter, beginning)))
        });
        let events = match framing {
            EventFraming::Sse => EventStream::new(limited.boxed()).boxed(),
            EventFraming::Lines => split_lines(limited.boxed()).boxed(),
        };
        Self { events, since_event, read_timeout, call }
    }

    /// The next event, or `None` at an orderly end of the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, ModelError> {
        match self.events.next().await {
            None => Ok(None),
            Some(Ok(event)) => {
                self.since_event.store(0, Ordering::Relaxed);
                Ok(Some(event))
            }
            Some(Err(EventStreamError::Transport(StreamFailure::Disconnected(words)))) => {
                Err(self.call.broken_connection_error(&words))
            }
            Some(Err(EventStreamError::Transport(StreamFailure::ReadTimeout))) => {
                Err(self.call.read_timeout_error(self.read_timeout))
            }
            Some(Err(EventStreamError::Transport(StreamFailure::TooLarge))) => {
                Err(self.call.malformed_error("it has no end"))
            }
            Some(Err(EventStreamError::Utf8(_))) => Err(self.call.malformed_error("it is not UTF-8")),
            Some(Err(EventStreamError::Parser(_))) => Err(self.call.malformed_error("it is not a stream of events")),
        }
    }

    /// The error for a connection that stayed open without content for `limit`.
    pub(crate) fn stall_error(&self, limit: Duration) -> ModelError {
        self.call.stall_error(limit)
    }

    /// The longest gap between bytes.
    pub(crate) fn read_timeout(&self) -> Duration {
        self.read_timeout
    }

    /// Reads to the end, if it comes at once: an HTTP/1.1 connection dropped before its last byte cannot be used again,
    /// and the next call would pay for a new one, TLS and all.
    pub(crate) async fn drain(&mut self) {
        let _ = timeout(DRAIN_TIMEOUT, async { while let Ok(Some(_)) = self.next().await {} }).await;
    }
}

/// Each line that is not blank, as an event.
fn split_lines(
    bytes: BoxStream<'static, Result<Bytes, StreamFailure>>,
) -> impl Stream<Item = Result<Event, EventStreamError<StreamFailure>>> + Send {
    struct State {
        bytes: Option<BoxStream<'static, Result<Bytes, StreamFailure>>>,
        buffer: BytesMut,
        /// So many bytes of it have no end of a line.
        looked: usize,
    }

    let start = State { bytes: Some(bytes), buffer: BytesMut::new(), looked: 0 };
    stream::unfold(start, |mut state| async move {
        loop {
            let end = state.buffer[state.looked..].iter().position(|byte| *byte == b'\n').map(|at| at + state.looked);
            let line = match (end, &mut state.bytes) {
                (Some(end), _) => state.buffer.split_to(end + 1),
                (None, None) if state.buffer.is_empty() => return None,
                // The last line may have no end.
                (None, None) => state.buffer.split(),
                (None, Some(bytes)) => {
                    state.looked = state.buffer.len();
                    match bytes.next().await {
                        Some(Ok(piece)) => state.buffer.extend_from_slice(&piece),
                        Some(Err(stop)) => return Some((Err(EventStreamError::Transport(stop)), state)),
                        None => state.bytes = None,
                    }
                    continue;
                }
            };
            state.looked = 0;
            match std::str::from_utf8(&line) {
                Err(_) => {
                    let error = String::from_utf8(line.to_vec()).expect_err("it is no text");
                    return Some((Err(EventStreamError::Utf8(error)), state));
                }
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

    async fn events(pieces: Vec<Result<Vec<u8>, String>>) -> Result<Vec<String>, ModelError> {
        framed(pieces, EventFraming::Sse).await
    }

    async fn framed(pieces: Vec<Result<Vec<u8>, String>>, framing: EventFraming) -> Result<Vec<String>, ModelError> {
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
        assert!(matches!(&cut, Err(ModelError::Network(m)) if m.contains("reset by peer")), "{cut:?}");
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
        // What only begins like one is passed on as it is.
        let other = events(vec![Ok(BOM[..2].to_vec()), Ok(b"data: a\n\n".to_vec())]).await.unwrap_err();
        assert!(matches!(other, ModelError::MalformedStream(_)), "{other:?}");
    }

    #[tokio::test]
    async fn disconnect_and_invalid_utf8_are_errors() {
        let cut = events(vec![Ok(b"data: a\n\n".to_vec()), Err("reset by peer".into())]).await.unwrap_err();
        assert!(matches!(&cut, ModelError::Network(m) if m.contains("reset by peer")), "{cut:?}");
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
