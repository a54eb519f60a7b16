//! A server to which every owner has a separate connection: every user with their own token in its headers, or every user or
//! session with a process.
//!
//! What is opened for one owner is never used for another, and no connection exists that a call without an owner could fall
//! back to. A connection is opened by the first call (or by [`McpHub::connect_user`](crate::McpHub::connect_user)) and closed
//! when its owner has not used it for a while.
//!
//! With tokens, the published tools are those that the server lists for the user who has been connected longest. A server
//! with processes has one more, which serves no calls: its tools are published.

use std::{collections::HashMap, sync::Arc, time::Duration};

use data_encoding::HEXLOWER;
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    CallError, ConnectError, ErrorReason, McpCallContext, McpConnector, ServerScope, WAITS_FOR_TOKEN,
    server_state::ServerState, supervisor::SupervisorShared, tool_discovery::DiscoveredTools,
};

/// Users that may be connected to one server at a time.
const MAX_CONNECTIONS: usize = 256;
/// A connection that its user has not used for this long is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);
/// A process that its owner has not used for this long is ended. It is long, because the state of the process ends with it.
const PROCESS_IDLE_TIMEOUT: Duration = Duration::from_secs(8 * 3600);

/// Identifies an owner, so that the map contains no copies of tokens.
type TokenDigest = [u8; 32];

/// By what the connections of a server are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionOwner {
    /// The token of the calling user.
    Token,
    /// The calling user.
    User,
    /// The session of the call.
    Session,
}

impl ConnectionOwner {
    /// Returns by what the connections of a server are told apart; `None` if all calls share one.
    pub(crate) fn find(connector: &dyn McpConnector) -> Option<Self> {
        match connector.scope() {
            ServerScope::Shared => connector.is_per_user().then_some(Self::Token),
            ServerScope::User => Some(Self::User),
            ServerScope::Session => Some(Self::Session),
        }
    }
}

/// A server that every user connects to with their own token.
pub(crate) struct PerUserServer {
    /// The published status. It has no connection itself.
    pub(crate) public_state: Arc<ServerState>,
    pub(crate) owner: ConnectionOwner,
    connector: Arc<dyn McpConnector>,
    shared: SupervisorShared,
    /// Never held across an await.
    connections: Mutex<UserConnections>,
}

#[derive(Default)]
struct UserConnections {
    next_sequence: u64,
    by_token: HashMap<TokenDigest, UserConnection>,
}

/// The connection of one user. Dropping it ends its supervisor.
struct UserConnection {
    /// Counts up, so that the oldest connection has the smallest.
    sequence: u64,
    server: Arc<ServerState>,
    cancel: CancellationToken,
    calls_in_flight: usize,
    last_used: Instant,
}

impl Drop for UserConnection {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl UserConnections {
    /// Makes room for one more connection by closing the one that was not used for longest.
    fn evict_if_full(&mut self) -> Result<(), TooManyUsers> {
        if self.by_token.len() < MAX_CONNECTIONS {
            return Ok(());
        }
        let unused = self.by_token.iter().filter(|(_, connection)| connection.calls_in_flight == 0);
        let least_recent = unused.min_by_key(|(_, connection)| connection.last_used).map(|(token, _)| *token);
        self.by_token.remove(&least_recent.ok_or(TooManyUsers)?);
        Ok(())
    }
}

/// All connections of a server have calls in flight.
#[derive(Debug, thiserror::Error)]
#[error("{MAX_CONNECTIONS} users have calls in flight on it")]
struct TooManyUsers;

impl PerUserServer {
    pub(crate) fn new(
        public_state: Arc<ServerState>,
        owner: ConnectionOwner,
        connector: Arc<dyn McpConnector>,
        shared: SupervisorShared,
    ) -> Arc<Self> {
        if owner == ConnectionOwner::Token {
            public_state.publish_disconnected(WAITS_FOR_TOKEN.to_owned());
        }
        Arc::new(Self { public_state, owner, connector, shared, connections: Mutex::default() })
    }

    /// Returns the connection of the caller, and opens it if necessary. It stays open while the guard lives.
    ///
    /// # Errors
    /// [`CallError::NotSent`] if the call does not name its owner, or if connecting fails.
    pub(crate) async fn acquire_for_call(
        self: &Arc<Self>,
        context: &McpCallContext,
    ) -> Result<UsedConnection, CallError> {
        let name = &self.public_state.name;
        let owner = match self.owner {
            ConnectionOwner::Token => return self.acquire_with_token(context.user_token.as_ref()).await,
            ConnectionOwner::User => context.user.as_ref().map(ToString::to_string),
            ConnectionOwner::Session => context.session.map(|session| session.to_string()),
        };
        let Some(owner) = owner else {
            return Err(CallError::NotSent(
                format!("MCP server {name} has a process per caller, and the call has none").into(),
            ));
        };
        let digest: TokenDigest = Sha256::digest(owner.as_bytes()).into();
        let file_name = HEXLOWER.encode(&digest);
        let used = self.find_or_open(digest, || self.connector.for_owner(&file_name)).map_err(CallError::NotSent)?;
        self.wait_for_connection(used).await.map_err(|error| {
            CallError::NotSent(format!("cannot start the caller's process of MCP server {name}: {error}").into())
        })
    }

    /// Returns the connection of the user with this token, and opens it if necessary. It stays open while the guard lives.
    ///
    /// # Errors
    /// [`CallError::NotSent`] without a token, or if connecting with it fails.
    pub(crate) async fn acquire_with_token(
        self: &Arc<Self>,
        token: Option<&SecretString>,
    ) -> Result<UsedConnection, CallError> {
        let name = &self.public_state.name;
        let Some(token) = token.filter(|token| !token.expose_secret().trim().is_empty()) else {
            let reason = format!("MCP server {name} requires the calling user's own token, and the call has none");
            return Err(CallError::NotSent(reason.into()));
        };
        let digest: TokenDigest = Sha256::digest(token.expose_secret().as_bytes()).into();
        let used = self.find_or_open(digest, || self.connector.for_user(token)).map_err(CallError::NotSent)?;
        self.wait_for_connection(used).await.map_err(|error| {
            let message = format!("cannot connect to MCP server {name} with the user's own token: {error}");
            CallError::NotSent(message.into())
        })
    }

    /// Waits until a connection is established. The error is why it is not.
    async fn wait_for_connection(self: &Arc<Self>, used: UsedConnection) -> Result<UsedConnection, String> {
        let limit = self.shared.timings.connect_timeout;
        let _ = tokio::time::timeout(limit, used.server.first_attempt_ended.cancelled()).await;
        if used.server.active_connection().is_some() {
            return Ok(used);
        }
        // The next call tries again, with the token that its user has then.
        let error = used.server.status().error.clone().unwrap_or_default();
        self.close_connection(&used.token, used.sequence);
        Err(error)
    }

    fn find_or_open(
        self: &Arc<Self>,
        digest: TokenDigest,
        build_connector: impl FnOnce() -> Result<Arc<dyn McpConnector>, ConnectError>,
    ) -> Result<UsedConnection, ErrorReason> {
        let message = || format!("cannot connect to MCP server {}", self.public_state.name);
        let mut connections = self.connections.lock();
        let connections = &mut *connections;
        if let Some(connection) = connections.by_token.get_mut(&digest) {
            return Ok(self.mark_used(digest, connection));
        }
        connections.evict_if_full().map_err(|error| ErrorReason::with_source(message(), error))?;
        let connector = build_connector().map_err(|error| ErrorReason::with_source(message(), error))?;
        let opened = self.open_connection(digest, connections.next_sequence, connector);
        connections.next_sequence += 1;
        Ok(self.mark_used(digest, connections.by_token.entry(digest).or_insert(opened)))
    }

    fn mark_used(self: &Arc<Self>, token: TokenDigest, connection: &mut UserConnection) -> UsedConnection {
        connection.calls_in_flight += 1;
        UsedConnection {
            per_user: self.clone(),
            token,
            sequence: connection.sequence,
            server: connection.server.clone(),
        }
    }

    fn open_connection(
        self: &Arc<Self>,
        token: TokenDigest,
        sequence: u64,
        connector: Arc<dyn McpConnector>,
    ) -> UserConnection {
        let changes = watch::Sender::new(0);
        let status_updates = changes.subscribe();
        let cancel = self.shared.cancel.child_token();
        let shared = SupervisorShared { cancel: cancel.clone(), ..self.shared.clone() };
        let server = shared.start_supervisor(self.public_state.name.to_string(), connector, changes);
        shared.spawn_task(self.clone().monitor_connection(token, sequence, status_updates, cancel.clone()));
        UserConnection { sequence, server, cancel, calls_in_flight: 0, last_used: Instant::now() }
    }

    /// Publishes the changes of a connection, and closes it when it is idle for too long.
    async fn monitor_connection(
        self: Arc<Self>,
        token: TokenDigest,
        sequence: u64,
        mut status_updates: watch::Receiver<u64>,
        cancel: CancellationToken,
    ) {
        while let Some(deadline) = self.idle_deadline(&token, sequence) {
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                result = status_updates.changed() => if result.is_err() { break },
                () = sleep_until(deadline) => {
                    // The deadline has moved if the connection was used meanwhile.
                    if self.idle_deadline(&token, sequence).is_some_and(|deadline| deadline <= Instant::now()) {
                        self.close_connection(&token, sequence);
                        break;
                    }
                }
            }
            self.publish_status();
        }
        self.publish_status();
    }

    /// Returns when a connection will have been idle for too long; `None` if it is closed.
    fn idle_deadline(&self, token: &TokenDigest, sequence: u64) -> Option<Instant> {
        let connections = self.connections.lock();
        let connection = connections.by_token.get(token).filter(|connection| connection.sequence == sequence)?;
        let idle_since = if connection.calls_in_flight == 0 { connection.last_used } else { Instant::now() };
        let timeout = if self.owner == ConnectionOwner::Token { IDLE_TIMEOUT } else { PROCESS_IDLE_TIMEOUT };
        Some(idle_since + timeout)
    }

    fn close_connection(&self, token: &TokenDigest, sequence: u64) {
        let mut connections = self.connections.lock();
        if connections.by_token.get(token).is_some_and(|connection| connection.sequence == sequence) {
            connections.by_token.remove(token);
        }
        drop(connections);
        self.publish_status();
    }

    fn publish_status(&self) {
        if self.owner != ConnectionOwner::Token {
            return;
        }
        // Under the lock, so that the newest status is published last.
        let connections = self.connections.lock();
        let connected = connections.by_token.values().filter(|user| user.server.active_connection().is_some());
        match connected.min_by_key(|user| user.sequence) {
            Some(oldest) => self.public_state.publish_connected(DiscoveredTools::from(&*oldest.server.status())),
            None => self.public_state.publish_disconnected(WAITS_FOR_TOKEN.to_owned()),
        }
    }

    /// Returns the state of every user's connection.
    pub(crate) fn user_states(&self) -> Vec<Arc<ServerState>> {
        self.connections.lock().by_token.values().map(|connection| connection.server.clone()).collect()
    }
}

/// A user's connection that is in use.
pub(crate) struct UsedConnection {
    per_user: Arc<PerUserServer>,
    token: TokenDigest,
    sequence: u64,
    pub(crate) server: Arc<ServerState>,
}

impl Drop for UsedConnection {
    fn drop(&mut self) {
        let mut connections = self.per_user.connections.lock();
        let connection = connections.by_token.get_mut(&self.token);
        if let Some(connection) = connection.filter(|connection| connection.sequence == self.sequence) {
            connection.calls_in_flight -= 1;
            connection.last_used = Instant::now();
        }
    }
}
