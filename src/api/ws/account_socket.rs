//! `/v1/events` as a WebSocket: the server sends what changes of the account, and the client sends nothing.

use actix_http::ws::CloseCode;
use actix_web::{HttpRequest, HttpResponse};
use futures_util::FutureExt as _;
use k8sops_telemetry::{OpenStreamGuard, StreamKind};

use super::{
    receiver::{ClientMessage, ReceiveError, WsReceiver},
    sender::DisconnectReason,
    socket::WsSocket,
    upgrade::accept_handshake,
};
use crate::api::{
    account_feed::{AccountFeed, AccountOutput},
    event_stream::StreamStop,
    problem::ProblemDetails,
    state::ApiState,
};

/// A client that has answered so many pings in a row with nothing is gone.
const MAX_UNANSWERED_PINGS: u32 = 3;
/// The largest frame of a client: it has nothing to say.
const MAX_CLIENT_FRAME_BYTES: usize = 4096;

/// Answers a handshake, and sends the feed to the client.
pub(in crate::api) fn open_account_socket(
    request: &HttpRequest,
    state: &ApiState,
    feed: AccountFeed,
) -> Result<HttpResponse, ProblemDetails> {
    let counted = state.metrics.track_stream(StreamKind::WebSocket);
    accept_handshake(request, |mut socket| {
        let receiver = WsReceiver::new(&mut socket, MAX_CLIENT_FRAME_BYTES);
        AccountSocket { feed, receiver, socket, unanswered_pings: 0, _counted: counted }.run().boxed_local()
    })
}

struct AccountSocket {
    feed: AccountFeed,
    receiver: WsReceiver,
    socket: WsSocket,
    unanswered_pings: u32,
    _counted: OpenStreamGuard,
}

impl AccountSocket {
    async fn run(mut self) {
        let reason = loop {
            if let Err(reason) = self.exchange_frame().await {
                break reason;
            }
        };
        if let DisconnectReason::Close(code, why) = reason {
            self.socket.close(code, why).await;
        }
    }

    /// Sends or receives one frame.
    async fn exchange_frame(&mut self) -> Result<(), DisconnectReason> {
        tokio::select! {
            output = self.feed.next() => self.send_output(output).await,
            message = self.receiver.receive(&mut self.socket) => {
                self.unanswered_pings = 0;
                self.handle_message(message).await
            }
        }
    }

    async fn send_output(&mut self, output: Option<AccountOutput>) -> Result<(), DisconnectReason> {
        match output {
            Some(AccountOutput::Frame(frame)) => self.socket.send_text(frame.json).await,
            Some(AccountOutput::Quiet) if self.unanswered_pings >= MAX_UNANSWERED_PINGS => {
                Err(DisconnectReason::ClientGone)
            }
            Some(AccountOutput::Quiet) => {
                self.unanswered_pings += 1;
                self.socket.send_ping().await
            }
            None => Err(self.end_of_feed()),
        }
    }

    fn end_of_feed(&self) -> DisconnectReason {
        match self.feed.stopped_by() {
            Some(StreamStop::Shutdown) => {
                DisconnectReason::Close(CloseCode::Away, "the service is shutting down; reconnect")
            }
            Some(StreamStop::CredentialsExpired) => {
                let why = "the key or token is no longer valid; reconnect with a valid one";
                DisconnectReason::Close(CloseCode::Policy, why)
            }
            None => DisconnectReason::Close(CloseCode::Normal, "all that is known was sent"),
        }
    }

    async fn handle_message(&mut self, message: Result<ClientMessage, ReceiveError>) -> Result<(), DisconnectReason> {
        match message {
            Ok(ClientMessage::Ping(payload)) => self.socket.send_pong(payload).await,
            Ok(ClientMessage::Pong) => Ok(()),
            Ok(ClientMessage::Close) => Err(DisconnectReason::Close(CloseCode::Normal, "")),
            Ok(ClientMessage::Text(_) | ClientMessage::Binary) => Err(DisconnectReason::Close(
                CloseCode::Policy,
                "this WebSocket accepts no commands; send them to a session",
            )),
            Err(ReceiveError::Disconnected) => Err(DisconnectReason::ClientGone),
            Err(ReceiveError::TooLarge) => Err(DisconnectReason::Close(CloseCode::Size, "the frame is too large")),
            Err(ReceiveError::Invalid) => Err(DisconnectReason::Close(CloseCode::Invalid, "the frame is invalid")),
            Err(ReceiveError::Flood) => {
                Err(DisconnectReason::Close(CloseCode::Policy, "too many pings or empty frames; send fewer"))
            }
        }
    }
}
