//! The response body of a turn: server-sent events in the form of a door.

use std::convert::Infallible;

use actix_web::{HttpResponse, http::header, web::Bytes};
use futures_util::{Stream, stream};
use k8sops_core::StreamFrame;

use super::{
    preceding_run::PrecedingWait,
    run_cursor::RunRest,
    turn_follower::{TurnFollower, TurnStep},
    waiting_interactions::WaitingInteractions,
};
use crate::api::{event_stream::CHUNK_BYTES, negotiation::SSE};

/// Writes a turn in the form of a door.
pub(super) trait TurnEncoder {
    /// Writes what comes before the first frame.
    fn encode_start(&mut self, out: &mut String);

    /// Writes a frame of the run. Many frames are nothing in a door's form.
    fn encode_frame(&mut self, frame: &StreamFrame, out: &mut String);

    /// Writes a sign of life.
    fn encode_keep_alive(&mut self, out: &mut String) {
        out.push_str(": keep-alive\n\n");
    }

    /// Writes what the run before this one waits for. Only messages that queue behind other runs get it.
    fn encode_blocked(&mut self, _wait: &PrecedingWait, _out: &mut String) {}

    /// Writes what the run waits for, if the protocol can say it within the stream.
    fn handle_waiting(&mut self, _waiting: &WaitingInteractions, _out: &mut String) -> AfterWaiting {
        AfterWaiting::Ends
    }

    /// Writes the end of the stream.
    fn encode_rest(&mut self, rest: &RunRest, out: &mut String);
}

/// What becomes of a stream whose run waits for its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterWaiting {
    /// The stream ends, as at the end of the run.
    Ends,
    /// The stream goes on: the answer comes by another request.
    Continues,
}

/// Returns the response that carries a turn.
pub(super) fn turn_response(follower: TurnFollower, encoder: impl TurnEncoder + 'static) -> HttpResponse {
    let body = TurnBody { follower, encoder, has_started: false, has_ended: false };
    sse_response().streaming(body.into_chunks())
}

/// Returns the beginning of a response with server-sent events.
pub(super) fn sse_response() -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .content_type(SSE)
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // Otherwise nginx buffers the stream.
        .insert_header(("x-accel-buffering", "no"));
    response
}

struct TurnBody<E> {
    follower: TurnFollower,
    encoder: E,
    has_started: bool,
    has_ended: bool,
}

impl<E: TurnEncoder + 'static> TurnBody<E> {
    fn into_chunks(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        // Boxed, because the state is moved with every chunk.
        stream::unfold(Box::new(self), |mut body| async move {
            let chunk = body.next_chunk().await?;
            Some((Ok(chunk), body))
        })
    }

    /// Returns the next bytes of the body, or `None` at its end.
    async fn next_chunk(&mut self) -> Option<Bytes> {
        let mut chunk = String::new();
        if !self.has_started {
            self.has_started = true;
            self.encoder.encode_start(&mut chunk);
            // A client learns at once that its request was accepted.
            if !chunk.is_empty() {
                return Some(Bytes::from(chunk));
            }
        }
        while !self.has_ended && (chunk.is_empty() || (self.follower.has_ready_step() && chunk.len() < CHUNK_BYTES)) {
            match self.follower.next().await {
                TurnStep::Frame(frame) => self.encoder.encode_frame(&frame, &mut chunk),
                TurnStep::KeepAlive => self.encoder.encode_keep_alive(&mut chunk),
                TurnStep::Blocked(wait) => self.encoder.encode_blocked(&wait, &mut chunk),
                TurnStep::Rest(RunRest::Waiting(waiting))
                    if self.encoder.handle_waiting(&waiting, &mut chunk) == AfterWaiting::Continues =>
                {
                    self.follower.continue_after_waiting();
                }
                TurnStep::Rest(rest) => {
                    self.encoder.encode_rest(&rest, &mut chunk);
                    self.has_ended = true;
                }
            }
        }
        (!chunk.is_empty()).then(|| Bytes::from(chunk))
    }
}
