//! The port that connects to a server.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use rmcp::{RoleClient, service::RunningService};
use secrecy::SecretString;

use crate::{ConnectionHandler, ErrorReason, ServerScope};

/// A connection whose handshake is complete.
pub type McpConnection = RunningService<RoleClient, ConnectionHandler>;

/// Connects to one server.
#[async_trait]
pub trait McpConnector: Send + Sync + 'static {
    /// `stdio`, `http` or `in-process`.
    fn transport(&self) -> &'static str;

    /// Connects and performs the handshake within `limit`. Dropping the future leaves nothing behind.
    ///
    /// The handler of the connection is its `service()`, which can be another one than `handler`.
    ///
    /// # Errors
    /// What failed, for the operator, without secrets.
    async fn connect(&self, handler: ConnectionHandler, limit: Duration) -> Result<McpConnection, ConnectError>;

    /// Whose calls one connection of the server carries, with a connector of [`for_owner`](Self::for_owner) if it is not
    /// [`ServerScope::Shared`].
    fn scope(&self) -> ServerScope {
        ServerScope::Shared
    }

    /// Returns the connector of one user or session, if the server is not shared. `owner` is a name for a file.
    ///
    /// # Errors
    /// [`ConnectError::Config`] if the server is shared, or if what a process of its own needs cannot be created.
    fn for_owner(&self, _owner: &str) -> Result<Arc<dyn McpConnector>, ConnectError> {
        Err(ConnectError::Config("the MCP server is shared by all users".into()))
    }

    /// Whether every user connects with their own token, through a connector from [`for_user`](Self::for_user).
    fn is_per_user(&self) -> bool {
        false
    }

    /// Returns the connector of the user with this token, if the server is [per user](Self::is_per_user).
    ///
    /// # Errors
    /// [`ConnectError::Config`] for a token that cannot be sent, and if the server is not per user.
    fn for_user(&self, _token: &SecretString) -> Result<Arc<dyn McpConnector>, ConnectError> {
        Err(ConnectError::Config("the MCP server does not use tokens of users".into()))
    }
}

/// Why a connection could not be established.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConnectError {
    /// The configuration is invalid.
    #[error(transparent)]
    Config(ErrorReason),
    /// The server could not be started or reached, or it rejected the credentials.
    #[error(transparent)]
    Unreachable(ErrorReason),
    /// The server was reached, and the handshake or the tool discovery failed.
    #[error(transparent)]
    Handshake(ErrorReason),
    /// The server did not answer in time.
    #[error(transparent)]
    Timeout(ErrorReason),
}
