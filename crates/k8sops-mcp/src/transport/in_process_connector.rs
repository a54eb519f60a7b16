//! Connections to servers that run in this process.

use std::{io, time::Duration};

use async_trait::async_trait;
use rmcp::service::ClientLifecycleMode;
use tokio::io::DuplexStream;

use super::{handshake::perform_handshake, line_transport::LineTransport};
use crate::{ConnectError, ConnectionHandler, ErrorReason, McpConnection, McpConnector};

/// Starts a server on one end of a pipe and returns the other end.
type ServerFactory = dyn Fn() -> io::Result<DuplexStream> + Send + Sync;

/// Connects to a server that runs in this process.
pub struct InProcessConnector(Box<ServerFactory>);

impl InProcessConnector {
    /// Creates a connector. `start_server` is called for every connection: it makes a pipe ([`tokio::io::duplex`]), serves one
    /// end of it and returns the other.
    pub fn new(start_server: impl Fn() -> io::Result<DuplexStream> + Send + Sync + 'static) -> Self {
        Self(Box::new(start_server))
    }
}

#[async_trait]
impl McpConnector for InProcessConnector {
    fn transport(&self) -> &'static str {
        "in-process"
    }

    async fn connect(&self, handler: ConnectionHandler, limit: Duration) -> Result<McpConnection, ConnectError> {
        let pipe = (self.0)().map_err(|error| {
            ConnectError::Unreachable(ErrorReason::with_source("the in-process server did not start", error))
        })?;
        let (read, write) = tokio::io::split(pipe);
        let transport = LineTransport::new(read, write, handler.clone());
        perform_handshake(handler, transport, ClientLifecycleMode::Initialize, limit).await
    }
}
