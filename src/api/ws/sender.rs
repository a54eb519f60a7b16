//! Writes frames to a client within a time limit.

use std::time::Duration;

use actix_http::ws::{CloseCode, CloseReason, Message};
use actix_web::web::Bytes;
use tokio::time::timeout;

use super::{socket::WsSocket, upgrade::close_connection};

/// How long a client may take to accept a frame. A client that was disconnected resumes from its cursor.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a close frame may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The largest payload of a control frame.
const MAX_CONTROL_BYTES: usize = 125;

/// Why a connection ends.
pub(super) enum DisconnectReason {
    /// The client is gone, and cannot be sent anything.
    ClientGone,
    /// The server closes the connection with this code and text.
    Close(CloseCode, &'static str),
}

/// A client that does not accept a frame in time counts as gone.
impl WsSocket {
    pub(super) async fn send_text(&mut self, json: String) -> Result<(), DisconnectReason> {
        self.queue_text(json)?;
        self.send_queued().await
    }

    /// Queues a text, which goes in one write with those that are ready, too.
    pub(super) fn queue_text(&mut self, json: String) -> Result<(), DisconnectReason> {
        self.queue(Message::Text(json.into())).map_err(|_| DisconnectReason::ClientGone)
    }

    pub(super) async fn send_queued(&mut self) -> Result<(), DisconnectReason> {
        match timeout(SEND_TIMEOUT, self.flush()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(DisconnectReason::ClientGone),
        }
    }

    pub(super) async fn send_ping(&mut self) -> Result<(), DisconnectReason> {
        self.send_control(Message::Ping(Bytes::new())).await
    }

    pub(super) async fn send_pong(&mut self, payload: Bytes) -> Result<(), DisconnectReason> {
        let length = payload.len().min(MAX_CONTROL_BYTES);
        self.send_control(Message::Pong(payload.slice(..length))).await
    }

    async fn send_control(&mut self, message: Message) -> Result<(), DisconnectReason> {
        self.queue(message).map_err(|_| DisconnectReason::ClientGone)?;
        self.send_queued().await
    }

    /// Sends a close frame, and closes the connection.
    pub(super) async fn close(mut self, code: CloseCode, why: &str) {
        let reason = CloseReason { code, description: Some(why.to_owned()) };
        // The client may be gone already.
        let is_queued = self.queue(Message::Close(Some(reason))).is_ok();
        if is_queued && matches!(timeout(CLOSE_TIMEOUT, self.flush()).await, Ok(Ok(()))) {
            close_connection(self.into_connection()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn client_that_accepts_nothing_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut socket = WsSocket::new(listener.accept().await.unwrap().0, b"");
        let text = "x".repeat(1 << 20);
        while timeout(Duration::from_secs(1), socket.send_text(text.clone())).await.is_ok() {}
        let limit = SEND_TIMEOUT + Duration::from_secs(1);
        let gone = |sent| matches!(sent, Ok(Err(DisconnectReason::ClientGone)));
        assert!(gone(timeout(limit, socket.send_text("x".into())).await), "text");
        assert!(gone(timeout(limit, socket.send_ping()).await), "ping");
        assert!(gone(timeout(limit, socket.send_pong(Bytes::from_static(b"x"))).await), "pong");
    }
}
