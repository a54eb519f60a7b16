//! A WebSocket while it is open: frames down, commands up, signs of life.

use std::time::{Duration, Instant};

use actix_web::web;
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason, Closed, ProtocolError, Session};
use futures_util::StreamExt;
use serde_json::Value;
use tokio::time::{interval, sleep, timeout};
use tracing::Instrument as _;

use super::frames::{Reply, Up, acknowledgement, envelope, refusal};
use crate::{
    api::{
        ApiState, ProblemDetails, approvals,
        extract::{Caller, CanApprove, CanWrite},
        inputs, messages, settings,
        stream::{OpenStream, STORE_RETRY},
    },
    auth::CallerIdentity,
};
use k8sops_core::{CommandId, CommandReceipt, EventCursor, RequestContext, SessionId, StoreError, StreamFrame};
use k8sops_telemetry::{request_id, spans};

/// How often the server asks whether the client is there.
const PING: Duration = Duration::from_secs(20);
/// A client of which nothing was heard for this long is gone.
const SILENCE: Duration = Duration::from_secs(60);
/// A client that takes nothing for this long is gone; it goes on from its cursor when it comes back.
const STUCK: Duration = Duration::from_secs(60);

/// A WebSocket that is open, and whose client is known.
pub(super) struct Connection {
    pub(super) api: web::Data<ApiState>,
    pub(super) caller: CallerIdentity,
    pub(super) session: SessionId,
    pub(super) socket: Down,
    /// When the client was last heard of.
    pub(super) heard: Instant,
    /// The request that opened it: all that comes over it belongs to that.
    pub(super) cause: RequestContext,
    pub(super) open: OpenStream,
    pub(super) _counted: k8sops_telemetry::OpenStreamGuard,
}

/// Why a connection ends.
pub(super) enum End {
    /// The client is gone; nothing can be said to it.
    Gone,
    /// The client is told why.
    Close(CloseCode, &'static str),
}

/// The way down to a client. What it does not take in time is not sent, and the client is gone.
pub(super) struct Down(pub(super) Session);

impl Down {
    pub(super) async fn text(&mut self, json: String) -> Result<(), End> {
        in_time(self.0.text(json)).await
    }

    async fn ping(&mut self) -> Result<(), End> {
        in_time(self.0.ping(b"")).await
    }

    async fn pong(&mut self, payload: &[u8]) -> Result<(), End> {
        in_time(self.0.pong(payload)).await
    }

    pub(super) async fn close(self, code: CloseCode, why: &str) {
        let reason = CloseReason { code, description: Some(why.to_owned()) };
        // A client that is gone meanwhile needs no word.
        let _ = timeout(Duration::from_secs(2), self.0.close(Some(reason))).await;
    }
}

async fn in_time(sent: impl Future<Output = Result<(), Closed>>) -> Result<(), End> {
    match timeout(STUCK, sent).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Closed)) | Err(_) => Err(End::Gone),
    }
}

/// Whether a client sent more than a message may have, in one frame or in several.
fn is_too_large(error: &ProtocolError) -> bool {
    match error {
        ProtocolError::Overflow => true,
        // What actix-ws says of a message in several frames; it has no kind of its own for it.
        ProtocolError::Io(error) => error.to_string().contains("maximum continuation size"),
        _ => false,
    }
}

impl Connection {
    pub(super) async fn serve(
        mut self,
        hello: StreamFrame,
        mut cursor: EventCursor,
        mut messages: AggregatedMessageStream,
    ) {
        let end = match self.socket.text(hello.to_json()).await {
            Err(end) => end,
            Ok(()) => self.exchange(&mut cursor, &mut messages).await,
        };
        if let End::Close(code, why) = end {
            self.socket.close(code, why).await;
        }
        drop(self.open);
    }

    /// Frames down, frames up, signs of life; until there is a reason to end.
    async fn exchange(&mut self, cursor: &mut EventCursor, messages: &mut AggregatedMessageStream) -> End {
        let mut ping = interval(PING);
        // The first tick is due at once.
        ping.reset();
        loop {
            let done = tokio::select! {
                () = self.api.halt.cancelled() => {
                    Err(End::Close(CloseCode::Away, "the service is stopping; connect again"))
                }
                () = self.open.lapsed() => {
                    Err(End::Close(CloseCode::Policy, "the key or token does not hold any more; connect again with another"))
                }
                // Boxed, so that a connection that only listens, as most do, has no room for what a command needs.
                message = messages.next() => Box::pin(self.receive(message)).await,
                frame = cursor.next() => self.pass_on(frame).await,
                _ = ping.tick() => self.ping().await,
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    async fn pass_on(&mut self, frame: Result<Option<StreamFrame>, StoreError>) -> Result<(), End> {
        match frame {
            Ok(Some(frame)) => self.socket.text(frame.to_json()).await,
            Ok(None) => Err(End::Close(CloseCode::Normal, "the session was deleted")),
            Err(error @ StoreError::Unavailable(_)) => {
                tracing::warn!(session = %self.session, %error, "a stream waits for the store");
                sleep(STORE_RETRY).await;
                Ok(())
            }
            Err(error) => {
                tracing::error!(session = %self.session, %error, "a stream ends because its log cannot be read");
                Err(End::Close(CloseCode::Error, "the session's log cannot be read"))
            }
        }
    }

    async fn ping(&mut self) -> Result<(), End> {
        if self.heard.elapsed() > SILENCE {
            return Err(End::Gone);
        }
        self.socket.ping().await
    }

    async fn receive(&mut self, message: Option<Result<AggregatedMessage, ProtocolError>>) -> Result<(), End> {
        self.heard = Instant::now();
        let answer = match message {
            None => return Err(End::Gone),
            Some(Ok(AggregatedMessage::Text(text))) => self.command(&text).await,
            Some(Ok(AggregatedMessage::Binary(_))) => self.refused(
                Value::Null,
                ProblemDetails::invalid(
                    "binary frames are not taken; send text: a JSON command, or a message as it is",
                ),
            ),
            Some(Ok(AggregatedMessage::Ping(bytes))) => return self.socket.pong(&bytes).await,
            Some(Ok(AggregatedMessage::Pong(_))) => return Ok(()),
            Some(Ok(AggregatedMessage::Close(_))) => return Err(End::Close(CloseCode::Normal, "")),
            Some(Err(error)) if is_too_large(&error) => {
                return Err(End::Close(CloseCode::Size, "the frame is larger than K8SOPS_MAX_FRAME_BYTES allows"));
            }
            Some(Err(ProtocolError::Io(error))) if error.kind() != std::io::ErrorKind::InvalidData => {
                tracing::debug!(%error, "a WebSocket broke");
                return Err(End::Gone);
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "a WebSocket client broke the protocol");
                return Err(End::Close(CloseCode::Invalid, "the frame is not valid; text must be UTF-8"));
            }
        };
        self.socket.text(answer.to_json()).await
    }

    /// Takes a command in; gives the answer to it.
    async fn command(&self, text: &str) -> Reply {
        let (command_id, fields) = match envelope(text) {
            Ok(parts) => parts,
            Err(refused) => {
                let (id, problem) = *refused;
                return self.refused(id, problem);
            }
        };
        let id = command_id.to_string();
        let span = spans::command_span(&self.cause, self.session);
        let request = request_id::accept_or_generate(self.cause.request_id.as_deref());
        match request_id::scope(request, self.submit(command_id, fields).instrument(span)).await {
            Ok(receipt) => acknowledgement(receipt),
            Err(problem) => refusal(Value::String(id), problem),
        }
    }

    /// What is no command counts as one.
    fn refused(&self, id: Value, problem: ProblemDetails) -> Reply {
        refusal(id, self.api.quota.request(&self.caller.user).err().unwrap_or(problem))
    }

    async fn submit(&self, command_id: CommandId, frame: Up) -> Result<CommandReceipt, ProblemDetails> {
        let (api, user, session) = (&self.api, &self.caller.user, self.session);
        api.quota.request(user)?;
        match &frame {
            Up::Resolve(..) => drop(Caller::<CanApprove>::new(self.caller.clone())?),
            _ => drop(Caller::<CanWrite>::new(self.caller.clone())?),
        }
        let command = match frame {
            Up::Message(message) => messages::command(api, user, command_id, message)?,
            Up::Cancel => messages::cancel_command(user, command_id),
            Up::Resolve(approval_id, answer) => approvals::command(&self.caller, command_id, approval_id, answer)?,
            Up::Answer(input_id, answer) => inputs::command(user, command_id, input_id, answer)?,
            Up::Settings(patch) => settings::command(user, command_id, patch)?,
        };
        Ok(api.sessions.submit_command(session, command).await?)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{FromRequest as _, http::header};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up_whatever_it_is_sent() {
        let (request, mut payload) = actix_web::test::TestRequest::default()
            .insert_header((header::CONNECTION, "upgrade"))
            .insert_header((header::UPGRADE, "websocket"))
            .insert_header((header::SEC_WEBSOCKET_VERSION, "13"))
            .insert_header((header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="))
            .to_http_parts();
        let payload = web::Payload::from_request(&request, &mut payload).await.unwrap();
        // Nobody reads the response, as when the client's window is full.
        let (_response, socket, _messages) = actix_ws::handle(&request, payload).unwrap();
        let mut down = Down(socket);
        while timeout(Duration::from_secs(1), down.0.text("x")).await.is_ok() {}
        let limit = STUCK + Duration::from_secs(1);
        let gone = |end| matches!(end, Ok(Err(End::Gone)));
        assert!(gone(timeout(limit, down.text("x".into())).await), "text");
        assert!(gone(timeout(limit, down.ping()).await), "ping");
        assert!(gone(timeout(limit, down.pong(b"x")).await), "pong");
    }
}
