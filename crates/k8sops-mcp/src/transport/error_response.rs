//! Error responses that take the place of a server's malformed answers.

use rmcp::{
    ErrorData,
    model::{RequestId, ServerJsonRpcMessage},
};

use crate::server_text::quote_server_text;

/// Builds the error response to one of our requests.
pub(super) fn error_response(message: String, request: RequestId) -> ServerJsonRpcMessage {
    ServerJsonRpcMessage::error(ErrorData::internal_error(message, None), Some(request))
}

/// The message for an answer that exceeds the size limit.
pub(super) fn oversized_answer_message(limit: usize) -> String {
    format!("the answer exceeds {limit} bytes and was discarded (mcp.max_message_bytes)")
}

/// The message for an answer that is not valid JSON.
pub(super) fn malformed_answer_message(error: &serde_json::Error) -> String {
    format!("cannot parse the answer: {}", quote_server_text(&error.to_string()))
}
