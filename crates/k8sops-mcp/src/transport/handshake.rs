//! How a connection to a server is made, whatever carries it.

use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;
use rmcp::{
    RoleClient,
    service::{ClientInitializeError, ClientLifecycleMode, ClientServiceExt, RunningService},
    transport::Transport,
};
use secrecy::SecretString;
use tokio::io::DuplexStream;

use crate::McpTransport;
use crate::{
    ConnectionHandler, HttpConnector, StdioConnector,
    transport::http_connector::{self, SendFault},
    transport::inbound_filter::Watched,
    transport::line_transport::Lines,
};

/// A connection that has been shaken hands on.
pub type McpConnection = RunningService<RoleClient, ConnectionHandler>;

/// The most of a server's own words in an error.
const MAX_QUOTE: usize = 400;

/// Makes connections to one server.
#[async_trait]
pub trait McpConnector: Send + Sync + 'static {
    /// `stdio`, `http` or `in-process`.
    fn transport(&self) -> &'static str;

    /// Connects and shakes hands, in no more time than `limit`. Dropping the future leaves nothing behind. The handler
    /// of the connection is its `service()`, which need not be the one given.
    ///
    /// # Errors
    /// What went wrong, for the operator, without secrets.
    async fn connect(&self, handler: ConnectionHandler, limit: Duration) -> Result<McpConnection, ConnectError>;

    /// Whether the server wants the own token of the user whose call it is, so that nobody else can connect.
    fn is_per_user(&self) -> bool {
        false
    }

    /// The connector of the user with this token, where [every user has one](Self::is_per_user).
    ///
    /// # Errors
    /// [`ConnectError::Config`] for a token that cannot be sent.
    fn for_user(&self, _token: &SecretString) -> Result<Arc<dyn McpConnector>, ConnectError> {
        Err(ConnectError::Config("the MCP server takes no tokens of users".to_owned()))
    }
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The configuration cannot work.
    #[error("{0}")]
    Config(String),
    /// The server could not be started or reached, or wants other credentials.
    #[error("{0}")]
    Unreachable(String),
    /// The server was reached and did not agree on the protocol.
    #[error("{0}")]
    Handshake(String),
    /// No answer in time.
    #[error("{0}")]
    Timeout(String),
}

/// The connector that this configuration asks for.
///
/// # Errors
/// [`ConnectError::Config`] for a URL, a header or a command that can never work.
pub fn build_connector(transport: &McpTransport) -> Result<Arc<dyn McpConnector>, ConnectError> {
    Ok(match transport {
        McpTransport::Stdio { command, args, env } => {
            Arc::new(StdioConnector::new(command.clone(), args.clone(), env.clone())?)
        }
        McpTransport::Http { url, headers, ssl_verify } => Arc::new(HttpConnector::new(url, headers, *ssl_verify)?),
    })
}

/// Makes the server's end of a pipe run and returns ours.
type Factory = dyn Fn() -> io::Result<DuplexStream> + Send + Sync;

/// Connects to a server that runs in this process.
pub struct InProcessConnector(Box<Factory>);

impl InProcessConnector {
    /// `factory` makes a pipe ([`tokio::io::duplex`]), serves one end of it and returns the other. It is called once for
    /// each connection.
    pub fn new(factory: impl Fn() -> io::Result<DuplexStream> + Send + Sync + 'static) -> Self {
        Self(Box::new(factory))
    }
}

#[async_trait]
impl McpConnector for InProcessConnector {
    fn transport(&self) -> &'static str {
        "in-process"
    }

    async fn connect(&self, handler: ConnectionHandler, limit: Duration) -> Result<McpConnection, ConnectError> {
        let pipe = (self.0)().map_err(|e| ConnectError::Unreachable(format!("the server did not start: {e}")))?;
        let (read, write) = tokio::io::split(pipe);
        serve(handler.clone(), Lines::new(read, write, handler), ClientLifecycleMode::Initialize, limit).await
    }
}

/// Shakes hands over a transport and keeps watch for its end.
pub(crate) async fn serve<T>(
    handler: ConnectionHandler,
    transport: T,
    lifecycle: ClientLifecycleMode,
    limit: Duration,
) -> Result<McpConnection, ConnectError>
where
    T: Transport<RoleClient> + 'static,
{
    let watched = Watched::new(transport, handler.clone());
    // The SDK waits for ever for an answer to `initialize`.
    match tokio::time::timeout(limit, handler.clone().serve_with_lifecycle(watched, lifecycle)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(handshake_error(&error, &handler)),
        Err(_) => Err(ConnectError::Timeout(format!(
            "the server did not answer the handshake within {} s",
            limit.as_secs_f32()
        ))),
    }
}

fn handshake_error(error: &ClientInitializeError, handler: &ConnectionHandler) -> ConnectError {
    if let Some(reason) = handler.known_close_reason() {
        return ConnectError::Unreachable(reason);
    }
    match error {
        ClientInitializeError::LegacyFallbackFailed { fallback, .. } => handshake_error(fallback, handler),
        ClientInitializeError::TransportError { error, .. } => match http_connector::fault(error) {
            SendFault::Unknown(text) => ConnectError::Handshake(text),
            SendFault::NotSent(text) | SendFault::Refused(text) => ConnectError::Unreachable(text),
        },
        ClientInitializeError::ConnectionClosed(_) => {
            ConnectError::Unreachable("the server closed the connection during the handshake".to_owned())
        }
        ClientInitializeError::JsonRpcError(error) => {
            ConnectError::Handshake(format!("the server refused the handshake: {}", quote(&error.message)))
        }
        ClientInitializeError::NoCompatibleProtocolVersion { server_supported, .. } => {
            ConnectError::Handshake(format!(
                "the server speaks no version of the protocol that is known here; it offers {}",
                server_supported.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            ))
        }
        // The other variants print whole messages.
        _ => ConnectError::Handshake("the server's answer to the handshake is not one that MCP knows".to_owned()),
    }
}

/// Words of a server for an error message: one line, bounded.
pub(crate) fn quote(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() <= MAX_QUOTE {
        return line;
    }
    let mut cut = line[..line.floor_char_boundary(MAX_QUOTE)].to_owned();
    cut.push('…');
    cut
}
