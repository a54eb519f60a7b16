//! An open WebSocket: sends events, receives commands, and exchanges pings.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_http::ws::CloseCode;
use k8sops_core::{FrameDetail, StoreError, StreamFrame};
use k8sops_telemetry::OpenStreamGuard;
use serde_json::Value;
use tokio::time::{interval, timeout};

use super::{
    command_executor::CommandExecutor,
    frames::CommandReply,
    receiver::{ClientMessage, ReceiveError, WsReceiver},
    sender::DisconnectReason,
    socket::WsSocket,
};
use crate::{
    api::{
        client_cursor::ClientCursor,
        event_stream::{CHUNK_BYTES, StreamGuard, StreamStop, damage_warning, wait_for_store_retry},
        long_response::{encode_snapshot, is_snapshot},
        problem::ProblemDetails,
    },
    runtime::StoreWatch,
};

/// How often the server pings the client.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// A client that has sent nothing for this long is gone.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// For this long, the reply to a command goes before the events that the command causes. The store may take longer to confirm a
/// command, and events do not wait for that.
const ACK_FIRST: Duration = Duration::from_millis(50);

/// A command that is being executed.
type CommandExecution = Pin<Box<dyn Future<Output = CommandReply>>>;

/// An open WebSocket of an authenticated client.
///
/// It owns all that lives as long as the connection, so that its future borrows that and stays small: a future has memory for
/// each value that is moved into it, once more.
pub(super) struct WsConnection {
    pub(super) executor: Arc<CommandExecutor>,
    pub(super) cursor: ClientCursor,
    pub(super) receiver: WsReceiver,
    pub(super) socket: WsSocket,
    pub(super) detail: FrameDetail,
    /// When the client last sent anything.
    pub(super) last_received: Instant,
    pub(super) guard: StreamGuard,
    pub(super) store_watch: StoreWatch,
    pub(super) _counted: OpenStreamGuard,
}

impl WsConnection {
    /// Sends `hello`, and exchanges frames until the connection ends.
    pub(super) async fn run(mut self: Box<Self>, hello: String) {
        let reason = match self.socket.send_text(hello).await {
            Err(reason) => reason,
            Ok(()) => self.exchange_frames().await,
        };
        if let DisconnectReason::Close(code, why) = reason {
            self.into_socket().close(code, why).await;
        }
    }

    /// Drops all but the socket: what the connection holds is free, although the client may take its time to close.
    fn into_socket(self: Box<Self>) -> WsSocket {
        self.socket
    }

    /// Sends and receives frames until there is a reason to disconnect.
    async fn exchange_frames(&mut self) -> DisconnectReason {
        let mut executing: Option<CommandExecution> = None;
        let mut ping = interval(PING_INTERVAL);
        // Otherwise the first tick is immediate.
        ping.reset();
        loop {
            let done = tokio::select! {
                stop = self.guard.stopped() => Err(match stop {
                    StreamStop::Shutdown => {
                        DisconnectReason::Close(CloseCode::Away, "the service is shutting down; reconnect")
                    }
                    StreamStop::CredentialsExpired => {
                        let why = "the key or token is no longer valid; reconnect with a valid one";
                        DisconnectReason::Close(CloseCode::Policy, why)
                    }
                }),
                // Commands are executed one after another, so that they take effect in their order.
                message = self.receiver.receive(&mut self.socket), if executing.is_none() => {
                    // Boxed: most connections only receive events, and should not reserve memory for executing a command.
                    Box::pin(self.handle_message(message, &mut executing)).await
                }
                reply = finish_execution(&mut executing) => {
                    executing = None;
                    self.send_reply(reply).await
                }
                frame = self.cursor.next() => self.send_frame(frame).await,
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
                let json = if is_snapshot(&frame) {
                    // Boxed: most connections never send one.
                    Box::pin(encode_snapshot(frame, self.detail)).await.1
                } else {
                    frame.encode_json(self.detail)
                };
                self.socket.queue_text(json)?;
                // Frames that are ready go in one write.
                if self.cursor.has_ready_frame() && self.socket.unsent_bytes() < CHUNK_BYTES {
                    return Ok(());
                }
                self.socket.send_queued().await
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
                self.socket.send_text(damage_warning(&error).to_json()).await?;
                Err(DisconnectReason::Close(CloseCode::Error, "the session's log cannot be read"))
            }
        }
    }

    async fn ping_client(&mut self) -> Result<(), DisconnectReason> {
        if self.last_received.elapsed() > SILENCE_TIMEOUT {
            return Err(DisconnectReason::ClientGone);
        }
        self.socket.send_ping().await
    }

    async fn handle_message(
        &mut self,
        message: Result<ClientMessage, ReceiveError>,
        executing: &mut Option<CommandExecution>,
    ) -> Result<(), DisconnectReason> {
        self.last_received = Instant::now();
        let reply = match message.map_err(|error| self.disconnect_reason(&error))? {
            ClientMessage::Text(text) => {
                let mut execution: CommandExecution = Box::pin(self.executor.clone().execute_frame(text));
                let Ok(reply) = timeout(ACK_FIRST, &mut execution).await else {
                    *executing = Some(execution);
                    return Ok(());
                };
                reply
            }
            ClientMessage::Binary => {
                let problem = ProblemDetails::invalid(
                    "binary frames are not supported; send text: a JSON command or the text of a message",
                );
                self.executor.reject(Value::Null, problem)
            }
            ClientMessage::Ping(payload) => return self.socket.send_pong(payload).await,
            ClientMessage::Pong => return Ok(()),
            ClientMessage::Close => return Err(DisconnectReason::Close(CloseCode::Normal, "")),
        };
        self.send_reply(reply).await
    }

    async fn send_reply(&mut self, reply: CommandReply) -> Result<(), DisconnectReason> {
        if !reply.is_accepted() {
            self.receiver.count_idle().map_err(|error| self.disconnect_reason(&error))?;
        }
        self.socket.send_text(reply.to_json()).await
    }

    fn disconnect_reason(&self, error: &ReceiveError) -> DisconnectReason {
        let (code, why) = match error {
            ReceiveError::Disconnected => return DisconnectReason::ClientGone,
            ReceiveError::TooLarge => (CloseCode::Size, "the frame is larger than the limit (K8SOPS_MAX_FRAME_BYTES)"),
            ReceiveError::Invalid => (CloseCode::Invalid, "the frame is invalid; text must be UTF-8"),
            ReceiveError::Flood => {
                self.executor.state.metrics.count_websocket_flood();
                // A client that connects again and again must not fill the log. The metric counts them all.
                if self.executor.state.flood_log.admit_line() {
                    tracing::warn!(user = %self.executor.caller.user, session = %self.executor.session, "websocket flooded, closing it");
                }
                (CloseCode::Policy, "too many pings, empty frames or rejected commands; send fewer")
            }
        };
        DisconnectReason::Close(code, why)
    }
}

/// Waits for the reply to the command that is being executed; never resolves without one.
async fn finish_execution(executing: &mut Option<CommandExecution>) -> CommandReply {
    match executing {
        Some(execution) => execution.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn future_size<A, B, F: Future>(_: impl FnOnce(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// Every idle WebSocket has memory for both.
    #[test]
    fn idle_connection_is_small() {
        let future = future_size(WsConnection::run);
        let connection = size_of::<WsConnection>();
        assert!(future + connection <= 2304, "the future has {future} bytes, and the connection {connection}");
    }
}
