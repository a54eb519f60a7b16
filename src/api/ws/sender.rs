//! Writes frames to a client within a time limit.

use std::time::Duration;

use actix_ws::{CloseCode, CloseReason, Closed, Session};
use tokio::time::timeout;

/// How long a client may take to accept a frame. A client that was disconnected resumes from its cursor.
pub(super) const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a close frame may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a connection ends.
pub(super) enum DisconnectReason {
    /// The client is gone, and cannot be sent anything.
    ClientGone,
    /// The server closes the connection with this code and text.
    Close(CloseCode, &'static str),
}

/// Sends frames to a client. A client that does not accept a frame in time counts as gone.
pub(super) struct WsSender(Session);

impl WsSender {
    pub(super) fn new(session: Session) -> Self {
        Self(session)
    }

    pub(super) async fn send_text(&mut self, json: String) -> Result<(), DisconnectReason> {
        within_limit(self.0.text(json)).await
    }

    pub(super) async fn send_ping(&mut self) -> Result<(), DisconnectReason> {
        within_limit(self.0.ping(b"")).await
    }

    pub(super) async fn send_pong(&mut self, payload: &[u8]) -> Result<(), DisconnectReason> {
        within_limit(self.0.pong(payload)).await
    }

    pub(super) async fn close(&self, code: CloseCode, why: &str) {
        let reason = CloseReason { code, description: Some(why.to_owned()) };
        // The client may be gone already.
        let _ = timeout(CLOSE_TIMEOUT, self.0.clone().close(Some(reason))).await;
    }
}

async fn within_limit(sent: impl Future<Output = Result<(), Closed>>) -> Result<(), DisconnectReason> {
    match timeout(SEND_TIMEOUT, sent).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Closed)) | Err(_) => Err(DisconnectReason::ClientGone),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{FromRequest as _, http::header, web};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn client_that_accepts_nothing_is_given_up() {
        let (request, mut payload) = actix_web::test::TestRequest::default()
            .insert_header((header::CONNECTION, "upgrade"))
            .insert_header((header::UPGRADE, "websocket"))
            .insert_header((header::SEC_WEBSOCKET_VERSION, "13"))
            .insert_header((header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="))
            .to_http_parts();
        let payload = web::Payload::from_request(&request, &mut payload).await.unwrap();
        // The response is not read, as when the client's receive window is full.
        let (_response, session, _messages) = actix_ws::handle(&request, payload).unwrap();
        let mut sender = WsSender::new(session);
        while timeout(Duration::from_secs(1), sender.0.text("x")).await.is_ok() {}
        let limit = SEND_TIMEOUT + Duration::from_secs(1);
        let gone = |sent| matches!(sent, Ok(Err(DisconnectReason::ClientGone)));
        assert!(gone(timeout(limit, sender.send_text("x".into())).await), "text");
        assert!(gone(timeout(limit, sender.send_ping()).await), "ping");
        assert!(gone(timeout(limit, sender.send_pong(b"x")).await), "pong");
    }
}
