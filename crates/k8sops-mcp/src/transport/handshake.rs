//! The MCP handshake over any transport.

use std::time::Duration;

use rmcp::{
    RoleClient,
    service::{ClientInitializeError, ClientLifecycleMode, ClientServiceExt},
    transport::Transport,
};

use super::{inbound_filter::InboundFilter, send_error::SendError};
use crate::{ConnectError, ConnectionHandler, ErrorReason, McpConnection, server_text::quote_server_text};

/// Performs the handshake over a transport, and filters all that arrives on it from then on.
pub(super) async fn perform_handshake<T>(
    handler: ConnectionHandler,
    transport: T,
    lifecycle: ClientLifecycleMode,
    limit: Duration,
) -> Result<McpConnection, ConnectError>
where
    T: Transport<RoleClient> + 'static,
{
    let filtered = InboundFilter::new(transport, handler.clone());
    // The SDK waits for the answer to `initialize` without a limit.
    match tokio::time::timeout(limit, handler.clone().serve_with_lifecycle(filtered, lifecycle)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(explain_failure(&error, &handler)),
        Err(_) => {
            let message = format!("the server did not answer the handshake within {} s", limit.as_secs_f32());
            Err(ConnectError::Timeout(message.into()))
        }
    }
}

fn explain_failure(error: &ClientInitializeError, handler: &ConnectionHandler) -> ConnectError {
    const CLOSED: &str = "the connection was closed during the handshake";
    if let Some(reason) = handler.recorded_close_reason() {
        return ConnectError::Unreachable(ErrorReason::with_source(CLOSED, reason));
    }
    match error {
        ClientInitializeError::LegacyFallbackFailed { fallback, .. } => explain_failure(fallback, handler),
        ClientInitializeError::TransportError { error, .. } => {
            let error = SendError::from_transport_error(error);
            match &error {
                SendError::NotSent(_) => {
                    ConnectError::Unreachable(ErrorReason::with_source("cannot reach the server", error))
                }
                SendError::Rejected(_) => {
                    ConnectError::Unreachable(ErrorReason::with_source("the handshake was rejected", error))
                }
                SendError::OutcomeUnknown(_) => {
                    ConnectError::Handshake(ErrorReason::with_source("the handshake failed", error))
                }
            }
        }
        ClientInitializeError::ConnectionClosed(_) => ConnectError::Unreachable(CLOSED.into()),
        ClientInitializeError::JsonRpcError(error) => {
            let message = format!("the server rejected the handshake: {}", quote_server_text(&error.message));
            ConnectError::Handshake(message.into())
        }
        ClientInitializeError::NoCompatibleProtocolVersion { server_supported, .. } => {
            let offered = server_supported.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let message = format!("the server supports none of our protocol versions; it offers {offered}");
            ConnectError::Handshake(message.into())
        }
        // The other variants display whole messages.
        _ => ConnectError::Handshake("the server's answer to the handshake is not valid in MCP".into()),
    }
}
