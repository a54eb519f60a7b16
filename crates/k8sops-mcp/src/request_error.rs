//! Why a request to a server returned no result.

use rmcp::service::ServiceError;

use crate::{close_reason::CloseReason, server_text::quote_server_text, transport::send_error::SendError};

/// Why a request to a server returned no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The server answered with a JSON-RPC error.
    #[error("{0}")]
    ErrorResponse(String),
    /// The request could not be sent, or its answer could not be received.
    #[error(transparent)]
    Send(SendError),
    /// The connection ended.
    #[error(transparent)]
    Closed(CloseReason),
    /// The SDK reports another failure.
    #[error("{0}")]
    Other(String),
}

impl RequestError {
    /// Translates an error of the SDK. `close_reason` tells why the connection ended, if it did.
    pub(crate) fn from_service_error(error: &ServiceError, close_reason: impl FnOnce() -> CloseReason) -> Self {
        match error {
            ServiceError::McpError(error) => Self::ErrorResponse(quote_server_text(&error.message)),
            ServiceError::TransportSend(error) => Self::Send(SendError::from_transport_error(error)),
            ServiceError::TransportClosed => Self::Closed(close_reason()),
            other => Self::Other(quote_server_text(&other.to_string())),
        }
    }
}
