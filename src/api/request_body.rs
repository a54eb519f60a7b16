//! Keeps the body of a request until the response is sent.
//!
//! A handler that responds without reading the whole body leaves a part of it on the connection. For a body without a length,
//! the server would then read until it ends, which a client can delay indefinitely and so hold a connection open. While the
//! body still exists, the server closes the connection after the response instead. Therefore the handler only borrows the
//! body, and the response retains it.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
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

use super::ws_handshake::is_handshake;

/// A body that a handler reads while this value keeps it alive.
pub(super) struct RetainedBody {
    _body: Rc<RefCell<Payload>>,
}

/// Replaces the body of a request by a borrowed one and returns the body itself. Returns `None` if the request has no body.
pub(super) fn retain_body(request: &mut ServiceRequest) -> Option<RetainedBody> {
    if is_handshake(request.request()) && !declares_body(request.request()) {
        return None;
    }
    match request.take_payload() {
        Payload::None => None,
        body => {
            let body = Rc::new(RefCell::new(body));
            request.set_payload(Payload::from(Box::pin(BorrowedBody(body.clone())) as Pin<Box<dyn Stream<Item = _>>>));
            Some(RetainedBody { _body: body })
        }
    }
}

/// Whether the head of a request declares a body.
pub(super) fn declares_body(request: &HttpRequest) -> bool {
    let headers = request.headers();
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0")
}

/// The body as the handler reads it.
struct BorrowedBody(Rc<RefCell<Payload>>);

impl Stream for BorrowedBody {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.borrow_mut().poll_next_unpin(cx)
    }
}

impl RetainedBody {
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
