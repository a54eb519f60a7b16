//! Responses that may be long: they are written on another thread, and sent in pieces. Other sessions of the worker would wait.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use actix_web::{
    HttpResponse,
    body::{BodySize, MessageBody},
    web::Bytes,
};
use k8sops_core::{FrameDetail, StreamFrame, TransientEvent, run_long_work};
use serde::Serialize;
use tokio::task::yield_now;

use super::{extractors::JSON_SPEED, negotiation::JSON, problem::ProblemDetails, problem_code::ProblemCode};

/// How much of a body is sent at once.
pub(super) const PIECE_BYTES: usize = 32 * 1024;
/// How much a worker writes and sends for one client before others have their turn: about a millisecond of work.
const BYTES_PER_TURN: usize = 256 * 1024;

/// Returns a response with a value of about this many bytes as JSON.
pub(super) async fn json_response<T: Serialize + Send + 'static>(bytes: u64, value: T) -> HttpResponse {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    match run_long_work(bytes / JSON_SPEED, move || serde_json::to_vec(&value)).await {
        Ok(text) => HttpResponse::Ok().content_type(JSON).body(LongBody::new(text)),
        Err(error) => {
            let detail = format!("the response cannot be written as JSON: {error}");
            ProblemDetails::new(ProblemCode::Internal, detail).response()
        }
    }
}

/// Whether a frame holds a whole conversation.
pub(super) fn is_snapshot(frame: &StreamFrame) -> bool {
    matches!(frame, StreamFrame::Transient(TransientEvent::Snapshot(_)))
}

/// Writes a snapshot as JSON, and returns both.
pub(super) async fn encode_snapshot(frame: StreamFrame, detail: FrameDetail) -> (StreamFrame, String) {
    let bytes: u64 = match &frame {
        StreamFrame::Transient(TransientEvent::Snapshot(snapshot)) => {
            snapshot.messages.iter().map(|message| message.estimated_bytes()).sum()
        }
        _ => 0,
    };
    run_long_work(usize::try_from(bytes).unwrap_or(usize::MAX) / JSON_SPEED, move || {
        let json = frame.encode_json(detail);
        (frame, json)
    })
    .await
}

/// A body that may be long.
pub(super) struct LongBody {
    rest: Bytes,
    bytes_in_turn: usize,
}

impl LongBody {
    pub(super) fn new(body: impl Into<Bytes>) -> Self {
        Self { rest: body.into(), bytes_in_turn: 0 }
    }
}

impl MessageBody for LongBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.rest.len() as u64)
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        if self.bytes_in_turn >= BYTES_PER_TURN {
            self.bytes_in_turn = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let length = self.rest.len().min(PIECE_BYTES);
        self.bytes_in_turn += length;
        let piece = self.rest.split_to(length);
        Poll::Ready((length > 0).then_some(Ok(piece)))
    }
}

/// Lets others have their turn while a stream has much to send.
#[derive(Debug, Default)]
pub(super) struct StreamPacer {
    bytes_in_turn: usize,
}

impl StreamPacer {
    /// Counts what was written, and pauses if it is enough for one turn.
    pub(super) async fn pause_after(&mut self, bytes: usize) {
        self.bytes_in_turn += bytes;
        if self.bytes_in_turn >= BYTES_PER_TURN {
            self.bytes_in_turn = 0;
            yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn long_body_lets_others_have_their_turn() {
        let whole = "abcdefg".repeat(300_000);
        let mut body = LongBody::new(whole.clone());
        assert_eq!(body.size(), BodySize::Sized(whole.len() as u64));
        let mut received = Vec::new();
        let mut turns = 1;
        loop {
            let piece = std::future::poll_fn(|context| Pin::new(&mut body).poll_next(context));
            match piece.now_or_never() {
                Some(Some(Ok(piece))) => received.extend_from_slice(&piece),
                Some(None) => break,
                None => turns += 1,
            }
        }
        assert_eq!(received, whole.as_bytes());
        assert_eq!(turns, whole.len() / BYTES_PER_TURN + 1);
        assert_eq!(body.size(), BodySize::Sized(0));
    }

    #[tokio::test]
    async fn stream_pauses_once_it_has_sent_enough() {
        let mut pacer = StreamPacer::default();
        assert!(pacer.pause_after(BYTES_PER_TURN - 1).now_or_never().is_some());
        assert!(pacer.pause_after(1).now_or_never().is_none());
        assert!(pacer.pause_after(1).now_or_never().is_some());
    }
}
