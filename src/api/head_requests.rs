//! Answers `HEAD` wherever `GET` is allowed.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use actix_web::{
    Error,
    body::{BodySize, EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, header},
    middleware::Next,
    web::Bytes,
};

/// The body of a response to `HEAD`: none, but of the size that the response to `GET` has.
pub struct HeadBody(BodySize);

impl MessageBody for HeadBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        self.0
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Poll::Ready(None)
    }
}

/// Handles a `HEAD` request like `GET`, and drops the body of the response: a stream ends where it begins.
///
/// # Errors
/// Those of the inner service.
pub async fn answer_head<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B, HeadBody>>, Error> {
    if request.method() != Method::HEAD {
        return next.call(request).await.map(ServiceResponse::map_into_left_body);
    }
    request.head_mut().method = Method::GET;
    // A handshake would open a WebSocket.
    request.headers_mut().remove(header::UPGRADE);
    let response = next.call(request).await?;
    Ok(response.map_body(|_, body| EitherBody::right(HeadBody(body.size()))))
}
