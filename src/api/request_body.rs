//! Keeps the body of a request until the response is sent.
//!
//! A handler that responds without reading the whole body leaves a part of it on the connection. For a body without a length,
//! the server would then read until it ends, which a client can delay indefinitely and so hold a connection open. While the
//! body still exists, the server closes the connection after the response instead. Therefore the handler only borrows the
//! body, and the response retains it.
//!
//! If the connection were closed while the client sends, the client might not get the response. So the rest of a body is
//! read first, within bounds, and other connections of the thread have their turn meanwhile.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_web::{
    HttpMessage as _, HttpRequest,
    body::{BodySize, BoxBody, EitherBody, MessageBody},
    dev::{Payload, ServiceRequest, ServiceResponse},
    error::PayloadError,
    http::header,
    web::Bytes,
};
use futures_util::{Stream, StreamExt as _};
use tokio::{task::yield_now, time::timeout};

use super::ws_handshake::is_handshake;

/// How much is read of what a handler has not read. A client that sends more may get a closed connection instead of a response.
const MAX_DISCARDED_BYTES: usize = 16 << 20;
/// How long that may take.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);
/// How many chunks are read before other connections of the same thread have their turn.
const CHUNKS_PER_TURN: u32 = 32;

/// A body that a handler reads while this value keeps it alive.
pub(super) struct RetainedBody(Rc<RefCell<Payload>>);

/// Replaces the body of a request by a borrowed one and returns the body itself. Returns `None` if the request has no body.
pub(super) fn retain_body(request: &mut ServiceRequest) -> Option<RetainedBody> {
    if is_handshake(request.request()) && !declares_body(request.request()) {
        return None;
    }
    match request.take_payload() {
        Payload::None => None,
        body => {
            let body = Rc::new(RefCell::new(body));
            request.set_payload(Payload::from(
                Box::pin(BorrowedBody::new(body.clone())) as Pin<Box<dyn Stream<Item = _>>>
            ));
            Some(RetainedBody(body))
        }
    }
}

/// Whether the head of a request declares a body.
pub(super) fn declares_body(request: &HttpRequest) -> bool {
    let headers = request.headers();
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0")
}

/// The body as the handler reads it. A client can send many small chunks faster than they are read, so that they would be read
/// without a pause.
struct BorrowedBody {
    body: Rc<RefCell<Payload>>,
    chunks_in_turn: u32,
    /// The turn of other connections, until it is over.
    turn_of_others: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl BorrowedBody {
    fn new(body: Rc<RefCell<Payload>>) -> Self {
        Self { body, chunks_in_turn: 0, turn_of_others: None }
    }
}

impl Stream for BorrowedBody {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.chunks_in_turn >= CHUNKS_PER_TURN {
            let turn = self.turn_of_others.get_or_insert_with(|| Box::pin(yield_now()));
            ready!(turn.as_mut().poll(cx));
            self.turn_of_others = None;
            self.chunks_in_turn = 0;
        }
        self.chunks_in_turn += 1;
        self.body.borrow_mut().poll_next_unpin(cx)
    }
}

impl RetainedBody {
    /// Reads what no handler has read, as far as it is little and comes soon.
    pub(super) async fn discard_rest(&self) {
        let mut rest = BorrowedBody::new(self.0.clone());
        let discarded = async {
            let mut bytes = 0;
            while let Some(Ok(chunk)) = rest.next().await {
                bytes += chunk.len();
                if bytes > MAX_DISCARDED_BYTES {
                    break;
                }
            }
        };
        // The connection is closed if there is more.
        let _ = timeout(DISCARD_TIMEOUT, discarded).await;
    }

    /// Attaches the request body to a response, so that both are dropped together.
    pub(super) fn attach_to<B: MessageBody + 'static>(
        self,
        response: ServiceResponse<B>,
    ) -> ServiceResponse<EitherBody<B>> {
        response.map_body(|_, body| {
            EitherBody::right(BoxBody::new(ResponseBody { body: BoxBody::new(body), _request_body: self }))
        })
    }
}

struct ResponseBody {
    body: BoxBody,
    _request_body: RetainedBody,
}

impl MessageBody for ResponseBody {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}
