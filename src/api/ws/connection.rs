//! An open WebSocket: sends events, receives commands, and exchanges pings.

use std::time::{Duration, Instant};

use actix_web::web;
use actix_ws::CloseCode;
use k8sops_core::{CommandId, CommandReceipt, EventCursor, RequestContext, SessionId, StoreError, StreamFrame};
use k8sops_telemetry::{OpenStreamGuard, request_id, spans};
use serde_json::Value;
use tokio::time::interval;
use tracing::Instrument as _;

use super::{
    frames::{ClientFrame, CommandReply, ParsedFrame, RejectedFrame, parse_frame},
    receiver::{ClientMessage, ReceiveError, WsReceiver},
    sender::{DisconnectReason, WsSender},
};
use crate::{
    api::{
        caller::{Caller, CanApprove, CanWrite},
        commands::{approval_command, cancel_command, input_command, message_command, settings_command},
        event_stream::{StreamGuard, damage_warning, wait_for_store_retry},
        problem::ProblemDetails,
        state::ApiState,
    },
    auth::CallerIdentity,
    runtime::StoreWatch,
};

/// How often the server pings the client.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// A client that has sent nothing for this long is gone.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// An open WebSocket of an authenticated client.
pub(super) struct WsConnection {
    pub(super) state: web::Data<ApiState>,
    pub(super) caller: CallerIdentity,
    pub(super) session: SessionId,
    pub(super) sender: WsSender,
    /// When the client last sent anything.
    pub(super) last_received: Instant,
    /// The handshake request. All commands of the connection belong to it.
    pub(super) context: RequestContext,
    pub(super) guard: StreamGuard,
    pub(super) store_watch: StoreWatch,
    pub(super) _counted: OpenStreamGuard,
}

impl WsConnection {
    pub(super) async fn run(mut self, hello: StreamFrame, mut cursor: EventCursor, mut receiver: WsReceiver) {
        let reason = match self.sender.send_text(hello.to_json()).await {
            Err(reason) => reason,
            Ok(()) => self.exchange_frames(&mut cursor, &mut receiver).await,
        };
        if let DisconnectReason::Close(code, why) = reason {
            self.sender.close(code, why).await;
        }
        drop(self.guard);
    }

    /// Sends and receives frames until there is a reason to disconnect.
    async fn exchange_frames(&mut self, cursor: &mut EventCursor, receiver: &mut WsReceiver) -> DisconnectReason {
        let mut ping = interval(PING_INTERVAL);
        // Otherwise the first tick is immediate.
        ping.reset();
        loop {
            let done = tokio::select! {
                () = self.state.shutdown.cancelled() => {
                    Err(DisconnectReason::Close(CloseCode::Away, "the service is shutting down; reconnect"))
                }
                () = self.guard.credentials_expired() => {
                    let why = "the key or token is no longer valid; reconnect with a valid one";
                    Err(DisconnectReason::Close(CloseCode::Policy, why))
                }
                // Boxed: most connections only receive events, and should not reserve memory for executing a command.
                message = receiver.receive() => Box::pin(self.handle_message(message, receiver)).await,
                frame = cursor.next() => self.send_frame(frame).await,
                _ = ping.tick() => self.ping_client().await,
            };
            if let Err(reason) = done {
                return reason;
            }
        }
    }

    async fn send_frame(&mut self, frame: Result<Option<StreamFrame>, StoreError>) -> Result<(), DisconnectReason> {
        match frame {
            Ok(Some(frame)) => {
                self.store_watch.record_success();
                self.sender.send_text(frame.to_json()).await
            }
            Ok(None) => {
                Err(DisconnectReason::Close(CloseCode::Normal, "the session was deleted, has expired, or is lost"))
            }
            Err(error @ StoreError::Unavailable(_)) => {
                self.store_watch.record_failure(&error);
                wait_for_store_retry().await;
                Ok(())
            }
            Err(error) => {
                self.sender.send_text(damage_warning(&error).to_json()).await?;
                Err(DisconnectReason::Close(CloseCode::Error, "the session's log cannot be read"))
            }
        }
    }

    async fn ping_client(&mut self) -> Result<(), DisconnectReason> {
        if self.last_received.elapsed() > SILENCE_TIMEOUT {
            return Err(DisconnectReason::ClientGone);
        }
        self.sender.send_ping().await
    }

    async fn handle_message(
        &mut self,
        message: Result<ClientMessage, ReceiveError>,
        receiver: &mut WsReceiver,
    ) -> Result<(), DisconnectReason> {
        self.last_received = Instant::now();
        let reply = match message.map_err(|error| self.disconnect_reason(&error))? {
            ClientMessage::Text(text) => self.execute_frame(&text).await,
            ClientMessage::Binary => {
                let problem = ProblemDetails::invalid(
                    "binary frames are not supported; send text: a JSON command or the text of a message",
                );
                self.reject(Value::Null, problem)
            }
            ClientMessage::Ping(payload) => return self.sender.send_pong(&payload).await,
            ClientMessage::Pong => return Ok(()),
            ClientMessage::Close => return Err(DisconnectReason::Close(CloseCode::Normal, "")),
        };
        if !reply.is_accepted() {
            receiver.count_idle().map_err(|error| self.disconnect_reason(&error))?;
        }
        self.sender.send_text(reply.to_json()).await
    }

    fn disconnect_reason(&self, error: &ReceiveError) -> DisconnectReason {
        let (code, why) = match error {
            ReceiveError::Disconnected => return DisconnectReason::ClientGone,
            ReceiveError::TooLarge => (CloseCode::Size, "the frame is larger than the limit (K8SOPS_MAX_FRAME_BYTES)"),
            ReceiveError::Invalid => (CloseCode::Invalid, "the frame is invalid; text must be UTF-8"),
            ReceiveError::Flood => {
                self.state.metrics.count_websocket_flood();
                // A client that connects again and again must not fill the log. The metric counts them all.
                if self.state.flood_log.admit_line() {
                    tracing::warn!(user = %self.caller.user, session = %self.session, "websocket flooded, closing it");
                }
                (CloseCode::Policy, "too many pings, empty frames or rejected commands; send fewer")
            }
        };
        DisconnectReason::Close(code, why)
    }

    /// Executes a text frame and returns the reply to it.
    async fn execute_frame(&self, text: &str) -> CommandReply {
        let ParsedFrame { command_id, frame } = match parse_frame(text) {
            Ok(parsed) => parsed,
            Err(rejected) => {
                let RejectedFrame { command_id, problem } = *rejected;
                return self.reject(command_id, problem);
            }
        };
        let id = command_id.to_string();
        let span = spans::command_span(&self.context, self.session);
        let request = request_id::accept_or_generate(self.context.request_id.as_deref());
        match request_id::scope(request, self.submit_command(command_id, frame).instrument(span)).await {
            Ok(receipt) => CommandReply::accepted(receipt),
            Err(problem) => CommandReply::rejected(Value::String(id), problem),
        }
    }

    /// Returns the reply to an invalid frame, which counts as a request.
    fn reject(&self, command_id: Value, problem: ProblemDetails) -> CommandReply {
        let over_quota = self.state.quota.count_request(&self.caller.user).err();
        CommandReply::rejected(command_id, over_quota.unwrap_or(problem))
    }

    async fn submit_command(
        &self,
        command_id: CommandId,
        frame: ClientFrame,
    ) -> Result<CommandReceipt, ProblemDetails> {
        let user = &self.caller.user;
        self.state.quota.count_request(user)?;
        match &frame {
            ClientFrame::Resolve(..) => drop(Caller::<CanApprove>::new(self.caller.clone())?),
            _ => drop(Caller::<CanWrite>::new(self.caller.clone())?),
        }
        let command = match frame {
            ClientFrame::Message(message) => {
                message_command(user, command_id, message, self.state.server.max_message_bytes)?
            }
            ClientFrame::Cancel => cancel_command(user, command_id),
            ClientFrame::Resolve(approval_id, answer) => {
                approval_command(&self.caller, command_id, approval_id, answer)?
            }
            ClientFrame::Answer(input_id, answer) => input_command(user, command_id, input_id, answer)?,
            ClientFrame::Settings(patch) => settings_command(user, command_id, patch)?,
        };
        Ok(self.state.sessions.submit_command(self.session, command).await?)
    }
}
