//! Builds the connector of a configured server.

use std::sync::Arc;

use super::{http_connector::HttpConnector, stdio_connector::StdioConnector};
use crate::{ConnectError, McpConnector, McpServerConfig, McpTransport, ServerScope};

/// Builds the connector of a configured server, with its scope.
///
/// # Errors
/// [`ConnectError::Config`] for a URL, a header or a command that can never work.
pub fn build_server_connector(server: &McpServerConfig) -> Result<Arc<dyn McpConnector>, ConnectError> {
    match &server.transport {
        McpTransport::Stdio { command, args, env, pass_env } if server.scope != ServerScope::Shared => {
            let connector = StdioConnector::new(command.clone(), args.clone(), env.clone(), pass_env.clone())?;
            Ok(Arc::new(connector.with_scope(server.scope)?))
        }
        transport => build_connector(transport),
    }
}

/// Builds the connector for a configured transport, shared by all users.
///
/// # Errors
/// [`ConnectError::Config`] for a URL, a header or a command that can never work.
pub fn build_connector(transport: &McpTransport) -> Result<Arc<dyn McpConnector>, ConnectError> {
    Ok(match transport {
        McpTransport::Stdio { command, args, env, pass_env } => {
            Arc::new(StdioConnector::new(command.clone(), args.clone(), env.clone(), pass_env.clone())?)
        }
        McpTransport::Http { url, headers, ssl_verify } => Arc::new(HttpConnector::new(url, headers, *ssl_verify)?),
    })
}
