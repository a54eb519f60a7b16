//! Messages with attachments, which may be larger than a WebSocket frame: they go over REST.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::api_client::{ApiClient, ApiClientError, session_path};

/// Time limit of sending a message with attachments.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Returns whether a command is a message with attachments.
pub(super) fn has_attachments(command: &Value) -> bool {
    command["attachments"].as_array().is_some_and(|attachments| !attachments.is_empty())
}

impl ApiClient {
    /// Sends a message command, and returns the frame that answers it over the WebSocket: `ack` or `error`.
    ///
    /// # Errors
    /// The service cannot answer at the moment. The same command may be sent again.
    pub(super) async fn upload_message(&self, session: &str, command: &Value) -> Result<Value, ApiClientError> {
        let command_id = command["command_id"].as_str().unwrap_or_default();
        let body = json!({"content": command["content"], "attachments": command["attachments"]});
        let request = self.build_request(Method::POST, &format!("{}/messages", session_path(session)))?;
        let request = request.header("idempotency-key", command_id).timeout(UPLOAD_TIMEOUT).json(&body);
        match self.send_built(request).await {
            Ok(_) => Ok(json!({"type": "ack", "command_id": command_id})),
            Err(ApiClientError::Rejected { status, code, message }) if status < 500 => {
                Ok(json!({"type": "error", "command_id": command_id, "code": code, "message": message}))
            }
            Err(error) => Err(error),
        }
    }
}
