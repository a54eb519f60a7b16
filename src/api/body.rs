//! The body of a request, lent to its handler.
//!
//! A handler that answers before it has read the body, or that nobody reached, leaves a part of it on the wire. The server
//! reads what is left of one without a length until it ends, which a client may put off for ever: it would hold its connection
//! with one packet, known or not. While the body is still somebody's, the server closes the connection after the answer
//! instead. So it is kept until the answer is sent.

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

use super::identity::is_upgrade;

/// A body that its handler reads, and somebody else keeps.
pub(super) struct Kept {
    _body: Rc<RefCell<Payload>>,
}

/// Lends a request's body to its handler; `None` where there is none, or what follows the head is no body.
pub(super) fn lend(request: &mut ServiceRequest) -> Option<Kept> {
    if is_upgrade(request.request()) && !says_body(request.request()) {
        return None;
    }
    match request.take_payload() {
        Payload::None => None,
        body => {
            let body = Rc::new(RefCell::new(body));
            request.set_payload(Payload::from(Box::pin(Lent(body.clone())) as Pin<Box<dyn Stream<Item = _>>>));
            Some(Kept { _body: body })
        }
    }
}

/// Whether a request's head says that a body follows it.
pub(super) fn says_body(request: &HttpRequest) -> bool {
    let headers = request.headers();
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0")
}

/// What the handler has of it.
struct Lent(Rc<RefCell<Payload>>);

impl Stream for Lent {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.borrow_mut().poll_next_unpin(cx)
    }
}

impl Kept {
    /// The answer, with which the body is let go.
    pub(super) fn until_sent<B: MessageBody + 'static>(
        self,
        answer: ServiceResponse<EitherBody<B>>,
    ) -> ServiceResponse<EitherBody<B>> {
        answer.map_body(|_, body| EitherBody::right(BoxBody::new(Answer { body: BoxBody::new(body), _kept: self })))
    }
}

struct Answer {
    body: BoxBody,
    _kept: Kept,
}

impl MessageBody for Answer {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}
