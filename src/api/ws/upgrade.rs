//! Lets a WebSocket take over the connection of its handshake.
//!
//! HTTP has a buffer of 8 KiB for each direction of a connection, and keeps them while it serves the connection. Most WebSockets
//! only wait, so a WebSocket gets the connection without them.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_codec::Framed;
use actix_http::{
    ConnectionType, HttpMessage as _, Payload, Request, Response,
    body::BoxBody,
    error::PayloadError,
    h1,
    ws::{HandshakeError, handshake},
};
use actix_service::Service;
use actix_web::{
    Error, HttpRequest, HttpResponse,
    body::{BodySize, MessageBody},
    dev::ServiceResponse,
    error::ErrorInternalServerError,
    http::{StatusCode, header},
    rt::net::TcpStream,
};
use futures_util::{SinkExt as _, future::LocalBoxFuture, stream::once};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy, sink},
    time::timeout,
};

use super::socket::WsSocket;
use crate::api::{
    problem::ProblemDetails,
    request_body::declares_body,
    ws_handshake::{SUBPROTOCOL, offers_subprotocol, require_websocket},
};

/// How much is read of what a client sends that nothing waits for: beside a stream, and after the end, so that it gets what was sent
/// before.
const MAX_DISCARDED_BYTES: u64 = 1 << 20;
/// How long that may take after the end.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// What the codec of HTTP writes.
type ResponsePart = h1::Message<(Response<()>, BodySize)>;
/// What is done with a connection after the handshake.
type SocketTask = Box<dyn FnOnce(WsSocket) -> LocalBoxFuture<'static, ()>>;

/// Where the handler of a handshake puts the task that takes over the connection.
#[derive(Clone, Default)]
struct UpgradeSlot(Rc<RefCell<Option<SocketTask>>>);

/// Returns the response to a handshake. `task` gets the connection when the response is sent, unless the handshake is of a version of
/// the protocol that is not ours.
///
/// # Errors
/// The request is no valid handshake.
pub(super) fn accept_handshake(
    request: &HttpRequest,
    task: impl FnOnce(WsSocket) -> LocalBoxFuture<'static, ()> + 'static,
) -> Result<HttpResponse, ProblemDetails> {
    let slot = request.extensions().get::<UpgradeSlot>().cloned();
    let Some(slot) = slot.filter(|_| !declares_body(request)) else {
        return Err(ProblemDetails::invalid(
            "a handshake must not have a body: remove Content-Length and Transfer-Encoding",
        ));
    };
    let mut response = match handshake(request.head()) {
        Ok(response) => response,
        Err(HandshakeError::UnsupportedVersion) => {
            return Ok(require_websocket("this service speaks version 13 of the WebSocket protocol (RFC 6455)"));
        }
        Err(error) => return Err(ProblemDetails::invalid(error.to_string())),
    };
    if offers_subprotocol(request) {
        response.insert_header((header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL));
    }
    *slot.0.borrow_mut() = Some(Box::new(task));
    Ok(response.finish().map_into_boxed_body().into())
}

/// Answers a request that asks for another protocol, and lets what its handler has chosen take over the connection.
///
/// # Errors
/// The connection breaks before the response is sent.
pub async fn serve_upgrade<S, B>(
    service: Rc<S>,
    request: Request,
    connection: Framed<TcpStream, h1::Codec>,
) -> Result<(), Error>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody + 'static,
{
    // Boxed, so that its memory is free while the WebSocket is open.
    if let Some(task) = Box::pin(answer_request(service, request, connection)).await? {
        task.await;
    }
    Ok(())
}

async fn answer_request<S, B>(
    service: Rc<S>,
    mut request: Request,
    mut connection: Framed<TcpStream, h1::Codec>,
) -> Result<Option<LocalBoxFuture<'static, ()>>, Error>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody + 'static,
{
    let slot = UpgradeSlot::default();
    request.extensions_mut().insert(slot.clone());
    if request.headers().get(header::CONTENT_LENGTH).is_some_and(|length| length != "0") {
        // The connection is handed over without a body. A handler must not take that for an empty one.
        *request.payload() = Payload::Stream { payload: Box::pin(once(async { Err(PayloadError::Incomplete(None)) })) };
    }
    let mut response: Response<BoxBody> = match service.call(request).await {
        Ok(response) => Response::from(response).map_into_boxed_body(),
        Err(error) => error.into(),
    };
    let task = slot.0.take().filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS);
    if task.is_none() {
        response.head_mut().set_connection_type(ConnectionType::Close);
        // A stream is written as it is, and ends with the connection.
        response.head_mut().no_chunking(true);
    }
    let (head, body) = response.into_parts();
    connection.send(h1::Message::Item((head, body.size()))).await?;
    if task.is_none() {
        send_body(&mut connection, body).await?;
    }
    let parts = connection.into_parts();
    let Some(task) = task else {
        close_connection(parts.io).await;
        return Ok(None);
    };
    Ok(Some(task(WsSocket::new(parts.io, &parts.read_buf))))
}

/// Sends a body until its end, or until the client sends no more: that ends a stream of any other connection, too.
async fn send_body(connection: &mut Framed<TcpStream, h1::Codec>, body: BoxBody) -> Result<(), Error> {
    let mut body = pin!(body);
    let mut connection = Pin::new(connection);
    let mut discarded = 0;
    let mut is_complete = false;
    poll_fn(|context| {
        loop {
            if poll_closed(connection.io_ref(), &mut discarded, context).is_ready() {
                return Poll::Ready(Ok(()));
            }
            ready!(connection.as_mut().flush::<ResponsePart>(context))?;
            if is_complete {
                return Poll::Ready(Ok(()));
            }
            let chunk = ready!(body.as_mut().poll_next(context)).transpose().map_err(ErrorInternalServerError)?;
            is_complete = chunk.is_none();
            connection.as_mut().write(h1::Message::Chunk(chunk))?;
        }
    })
    .await
}

/// Resolves when the client has closed its side of the connection. What it sends before that is not read: it expects a WebSocket.
fn poll_closed(connection: &TcpStream, discarded: &mut u64, context: &mut Context<'_>) -> Poll<()> {
    let mut bytes = [0; 1024];
    while *discarded < MAX_DISCARDED_BYTES {
        if ready!(connection.poll_read_ready(context)).is_err() {
            return Poll::Ready(());
        }
        match connection.try_read(&mut bytes) {
            Ok(length @ 1..) => *discarded += length as u64,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => return Poll::Ready(()),
        }
    }
    Poll::Pending
}

/// Closes a connection so that the client gets all that was sent: it would not if bytes that have arrived were left unread.
pub(super) async fn close_connection(mut connection: TcpStream) {
    if connection.shutdown().await.is_ok() {
        let mut rest = connection.take(MAX_DISCARDED_BYTES);
        // A client that sends more, or waits longer, may not get the last frames.
        let _ = Box::pin(timeout(DISCARD_TIMEOUT, copy(&mut rest, &mut sink()))).await;
    }
}
