//! The events of a response, with limits on time and size.

use std::{error::Error, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream::BoxStream};
use k8sops_core::LazyDeadline;
use tokio::time::{Instant, timeout};

use crate::{
    ModelError,
    error_mapping::ProviderCall,
    event_framing::{EventFramer, EventFraming, ProviderEvent},
};

/// The size limit of an event. Without it, a server that never ends an event would exhaust the memory.
const MAX_EVENT_BYTES: usize = 8 << 20;
/// The size limit of a stream: far more than any reply needs (about 300 bytes per token).
const MAX_STREAM_BYTES: usize = 256 << 20;
/// How long to wait for the end of a stream whose reply is complete.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(5);
/// How long to wait for the missing end of an event that is otherwise complete.
const EVENT_END_TIMEOUT: Duration = Duration::from_secs(2);

/// An error of the transport.
type TransportError = Box<dyn Error + Send + Sync>;

/// The events of one response.
pub(crate) struct ProviderEventStream {
    bytes: BoxStream<'static, Result<Bytes, TransportError>>,
    framer: EventFramer,
    /// Why no more bytes arrive. The events before come first.
    end: Option<Result<(), ModelError>>,
    total_bytes: usize,
    read_timeout: Duration,
    read_deadline: LazyDeadline,
    call: ProviderCall,
    is_declared: bool,
}

impl ProviderEventStream {
    /// Creates a stream of the events in `bytes`. It fails if no bytes arrive for `read_timeout`.
    pub(crate) fn new(
        bytes: impl Stream<Item = Result<Bytes, TransportError>> + Send + 'static,
        framing: EventFraming,
        read_timeout: Duration,
        call: ProviderCall,
    ) -> Self {
        Self {
            bytes: bytes.boxed(),
            framer: EventFramer::new(framing),
            end: None,
            total_bytes: 0,
            read_timeout,
            read_deadline: LazyDeadline::new(),
            call,
            is_declared: true,
        }
    }

    /// Puts bytes of the response that were read before in front of the others.
    pub(crate) fn with_first_bytes(mut self, bytes: &[u8]) -> Self {
        self.framer.push_bytes(bytes);
        self
    }

    /// Remembers that the response does not claim to be a stream.
    pub(crate) fn without_declared_type(self) -> Self {
        Self { is_declared: false, ..self }
    }

    /// Returns whether the response claims to be a stream.
    pub(crate) fn is_declared_stream(&self) -> bool {
        self.is_declared
    }

    /// Returns the next event, or `None` at the regular end of the stream. It can be called again if its future was
    /// dropped.
    pub(crate) async fn next(&mut self) -> Result<Option<ProviderEvent>, ModelError> {
        let mut last_bytes = Instant::now();
        loop {
            if let Some(event) = self.framer.next_event() {
                return Ok(Some(event));
            }
            if let Some(end) = &self.end {
                return end.clone().map(|()| None);
            }
            let mut deadline = last_bytes + self.read_timeout;
            if self.framer.pending_bytes() > 0 {
                deadline = deadline.min(Instant::now() + EVENT_END_TIMEOUT);
            }
            match self.read_deadline.wait_until(deadline, self.bytes.next()).await {
                Some(Some(Ok(piece))) => {
                    last_bytes = Instant::now();
                    self.total_bytes += piece.len();
                    self.framer.push_bytes(&piece);
                    if self.framer.pending_bytes() > MAX_EVENT_BYTES || self.total_bytes > MAX_STREAM_BYTES {
                        self.end = Some(Err(self.call.malformed_error("it exceeds the size limit")));
                    }
                }
                Some(Some(Err(error))) => {
                    self.framer.release_complete_event();
                    self.end = Some(Err(self.call.broken_connection_error(error)));
                }
                Some(None) => {
                    self.framer.finish();
                    self.end = Some(Ok(()));
                }
                None if self.framer.release_complete_event() => {}
                None if last_bytes.elapsed() >= self.read_timeout => {
                    return Err(self.call.read_timeout_error(self.read_timeout));
                }
                None => {}
            }
        }
    }

    /// Returns the call that the stream answers.
    pub(crate) fn call(&self) -> &ProviderCall {
        &self.call
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

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;
    use crate::{ModelErrorKind, test_support::test_call};

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
        assert!(
            matches!(&cut, Err(ModelError { kind: ModelErrorKind::Network, message: m, .. }) if m.contains("reset by peer")),
            "{cut:?}"
        );
        let latin1 = framed(vec![Ok(b"caf\xe9\n".to_vec())], EventFraming::Lines).await;
        assert_eq!(latin1.unwrap(), ["caf\u{fffd}"]);
        let endless = (0..=8).map(|_| Ok(vec![b'x'; 1 << 20])).collect();
        let endless = framed(endless, EventFraming::Lines).await;
        assert!(matches!(endless, Err(ModelError { kind: ModelErrorKind::MalformedStream, .. })), "{endless:?}");
    }

    #[tokio::test]
    async fn disconnect_is_an_error_after_the_last_event() {
        let cut = events(vec![Ok(b"data: a\n\n".to_vec()), Err("reset by peer".into())]).await.unwrap_err();
        assert!(
            matches!(&cut, ModelError { kind: ModelErrorKind::Network, message: m, .. } if m.contains("reset by peer")),
            "{cut:?}"
        );
        let unterminated = vec![Ok(b"data: {}".to_vec()), Err("reset by peer".into())];
        let bytes =
            stream::iter(unterminated.into_iter().map(|piece: Result<Vec<u8>, TransportError>| piece.map(Bytes::from)));
        let mut events = ProviderEventStream::new(bytes, EventFraming::Sse, GAP, test_call());
        assert!(events.next().await.unwrap().is_some(), "only the end of the event is missing");
        assert!(matches!(events.next().await, Err(ModelError { kind: ModelErrorKind::Network, .. })));
    }

    #[tokio::test]
    async fn oversized_event_is_rejected() {
        let mut pieces = vec![Ok(b"data: small\n\ndata: ".to_vec())];
        pieces.extend((0..=8).map(|_| Ok(vec![b'x'; 1 << 20])));
        let error = events(pieces).await.unwrap_err();
        assert!(matches!(error, ModelError { kind: ModelErrorKind::MalformedStream, .. }), "{error:?}");
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
        assert!(
            matches!(&error, ModelError { kind: ModelErrorKind::Timeout, message: m, .. } if m.contains("30 s")),
            "{error:?}"
        );
        assert_eq!(start.elapsed().as_secs(), 3 * 29 + 30);
    }
}
