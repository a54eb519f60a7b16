//! The task that keeps one server connected.
//!
//! ```text
//!          ┌────────────────── backoff ◀──────────────────┐
//!          ▼                                              │
//! start ─▶ connect + discover ─▶ monitor ─▶ lost ─────────┤
//!          └──────── failed ──────────────────────────────┘      (until cancelled)
//! ```

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use k8sops_core::ErrorChain;
use rmcp::service::ClientCacheConfig;
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    ConnectError, ConnectionHandler, ErrorReason, McpConnection, McpConnector, ToolFilter,
    active_connection::ActiveConnection,
    reconnect_backoff::ReconnectBackoff,
    server_state::{RefreshRequest, ServerState},
    tool_discovery::{DiscoveredTools, DiscoveryError, discover_tools},
    tool_subscription::subscribe_to_tool_changes,
};

/// Smallest interval between two checks that no user requested, however many notifications the server sends.
const MIN_CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Longest time that closing one connection may take: the drain of the SDK, then twice the grace period of a child process.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(8);

/// Timeouts and intervals of a supervisor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SupervisorTimings {
    pub(crate) connect_timeout: Duration,
    /// Longest time that a connected server may take to list its tools, and that anything else waits for a server.
    pub(crate) check_timeout: Duration,
    pub(crate) call_timeout: Duration,
    pub(crate) health_interval: Duration,
    pub(crate) max_backoff: Duration,
}

/// What all supervisors of a hub share.
#[derive(Clone)]
pub(crate) struct SupervisorShared {
    pub(crate) timings: SupervisorTimings,
    pub(crate) max_message_bytes: usize,
    /// The operator's choice of tools, by the name of the server.
    pub(crate) tool_filters: Arc<BTreeMap<String, ToolFilter>>,
    pub(crate) cancel: CancellationToken,
    /// Cancelled when connections must end without grace period.
    pub(crate) immediate_shutdown: CancellationToken,
    /// Tracks the tasks of the whole process.
    pub(crate) process_tasks: TaskTracker,
    /// Tracks the tasks of the hub, which [`McpHub::close`](crate::McpHub::close) waits for.
    pub(crate) hub_tasks: TaskTracker,
}

impl SupervisorShared {
    /// Starts the supervisor of a server.
    pub(crate) fn start_supervisor(
        &self,
        name: String,
        connector: Arc<dyn McpConnector>,
        changes: watch::Sender<u64>,
    ) -> Arc<ServerState> {
        let (server, refresh_requests) =
            ServerState::new(name, connector.transport(), self.timings.connect_timeout, changes);
        let supervisor = Supervisor {
            server: server.clone(),
            connector,
            refresh_requests,
            pending_refreshes: Vec::new(),
            shared: self.clone(),
        };
        self.spawn_task(supervisor.run());
        server
    }

    /// Spawns a task that the hub waits for when it closes.
    pub(crate) fn spawn_task(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.process_tasks.spawn(self.hub_tasks.track_future(task));
    }
}

/// Keeps one server connected until it is cancelled.
struct Supervisor {
    server: Arc<ServerState>,
    connector: Arc<dyn McpConnector>,
    refresh_requests: mpsc::Receiver<RefreshRequest>,
    /// Requests that the next discovery completes.
    pending_refreshes: Vec<RefreshRequest>,
    shared: SupervisorShared,
}

/// How monitoring a connection ended.
enum MonitorEnd {
    ShuttingDown,
    /// The connection is unusable, for this reason.
    Lost(String),
}

/// A new connection and the tools that were discovered on it.
struct EstablishedConnection {
    sdk_connection: McpConnection,
    connection: Arc<ActiveConnection>,
    discovered: DiscoveredTools,
}

impl Supervisor {
    async fn run(mut self) {
        let max_backoff = self.shared.timings.max_backoff;
        let mut backoff = ReconnectBackoff::new(max_backoff);
        let cancel = self.shared.cancel.clone();
        loop {
            match self.connect().await {
                Ok(EstablishedConnection { sdk_connection, connection, discovered }) => {
                    let tools = discovered.tools.len();
                    tracing::info!(server = &*self.server.name, tools, "mcp server connected");
                    self.server.set_connection(connection.clone(), discovered);
                    self.complete_refreshes();
                    let connected_at = Instant::now();
                    let end = self.monitor_connection(&connection).await;
                    if let MonitorEnd::Lost(reason) = &end {
                        tracing::warn!(server = &*self.server.name, reason, "mcp server disconnected");
                        self.server.clear_connection(reason.clone());
                    }
                    self.close_in_background(sdk_connection, connection);
                    if matches!(end, MonitorEnd::ShuttingDown) {
                        break;
                    }
                    // The backoff continues for a server that fails soon after each start.
                    if connected_at.elapsed() > max_backoff {
                        backoff = ReconnectBackoff::new(max_backoff);
                    }
                }
                Err(_) if cancel.is_cancelled() => break,
                Err(error) => {
                    let error = ErrorChain(&error).to_string();
                    if self.server.status().error.as_deref() != Some(&error) {
                        tracing::warn!(server = &*self.server.name, error, "mcp server connection failed, retrying");
                    }
                    self.server.clear_connection(error);
                }
            }
            self.complete_refreshes();
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                Some(request) = self.refresh_requests.recv() => self.pending_refreshes.push(request),
                () = tokio::time::sleep(backoff.next_delay()) => {}
            }
        }
        self.server.mark_stopped();
    }

    /// Connects and discovers the tools. On failure and on cancellation nothing is left behind.
    async fn connect(&self) -> Result<EstablishedConnection, ConnectError> {
        let limit = self.shared.timings.connect_timeout;
        let deadline = Instant::now() + limit;
        let handler = ConnectionHandler::with_options(
            self.server.name.clone(),
            self.shared.immediate_shutdown.clone(),
            self.shared.max_message_bytes,
        );
        let shutting_down = || ConnectError::Unreachable("the service is shutting down".into());
        let mut sdk_connection = tokio::select! {
            biased;
            () = self.shared.cancel.cancelled() => return Err(shutting_down()),
            connection = self.connector.connect(handler, limit) => connection?,
        };
        let peer = sdk_connection.peer().clone();
        let handler = sdk_connection.service().clone();
        // By default the SDK answers a list from its cache, even from a stale one while the server is down.
        peer.set_response_cache_config(ClientCacheConfig::disabled()).await;
        let connection = ActiveConnection::new(peer, handler);
        let discovered = tokio::select! {
            biased;
            () = self.shared.cancel.cancelled() => Err(shutting_down()),
            discovered = discover_tools(&connection, deadline.saturating_duration_since(Instant::now())) => {
                discovered.map_err(|error| discovery_failure(error, limit))
            }
        };
        match discovered {
            Ok(mut discovered) => {
                self.filter_tools(&mut discovered);
                Ok(EstablishedConnection { sdk_connection, connection: Arc::new(connection), discovered })
            }
            Err(error) => {
                let _ = sdk_connection.close_with_timeout(CLOSE_TIMEOUT).await;
                Err(error)
            }
        }
    }

    /// Checks a connection at intervals and on request until it ends.
    async fn monitor_connection(&mut self, connection: &Arc<ActiveConnection>) -> MonitorEnd {
        let timings = self.shared.timings;
        let handler = &connection.handler;
        let closed = || MonitorEnd::Lost(ErrorChain(&handler.close_reason()).to_string());
        let mut health_check =
            interval_at(tokio::time::Instant::now() + timings.health_interval, timings.health_interval);
        health_check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_check = Instant::now();
        let mut subscription = std::pin::pin!(subscribe_to_tool_changes(connection));
        loop {
            let min_interval = tokio::select! {
                biased;
                () = self.shared.cancel.cancelled() => return MonitorEnd::ShuttingDown,
                () = handler.wait_until_closed() => return closed(),
                Some(request) = self.refresh_requests.recv() => {
                    self.pending_refreshes.push(request);
                    Duration::ZERO
                }
                () = handler.wait_for_changed_tools() => MIN_CHECK_INTERVAL,
                never = &mut subscription => match never {},
                () = self.server.wait_for_check_request() => MIN_CHECK_INTERVAL,
                _ = health_check.tick() => MIN_CHECK_INTERVAL,
            };
            let check = async {
                tokio::time::sleep(min_interval.saturating_sub(last_check.elapsed())).await;
                discover_tools(connection, timings.check_timeout).await
            };
            let checked = tokio::select! {
                biased;
                () = self.shared.cancel.cancelled() => return MonitorEnd::ShuttingDown,
                () = handler.wait_until_closed() => return closed(),
                checked = check => checked,
            };
            last_check = Instant::now();
            match checked {
                Ok(mut discovered) => {
                    self.filter_tools(&mut discovered);
                    handler.record_activity();
                    self.server.set_connection(connection.clone(), discovered);
                }
                // Many servers handle one request at a time, so a server that is silent during a call may be healthy, and
                // restarting it would interrupt a change. But no call takes longer than its limit.
                Err(DiscoveryError::Timeout(_))
                    if !connection.calls.is_empty()
                        && handler.silent_for() < timings.call_timeout + timings.check_timeout =>
                {
                    tracing::debug!(server = &*self.server.name, "mcp health check timed out during a call");
                }
                Err(error) if handler.is_closed() => {
                    let error = ErrorChain(&error);
                    tracing::debug!(server = &*self.server.name, %error, "mcp health check failed");
                    return closed();
                }
                Err(error) => return MonitorEnd::Lost(ErrorChain(&error).to_string()),
            }
            self.complete_refreshes();
        }
    }

    /// Closes a connection in the background. Calls that are in flight on it may end first, unless it is already closed.
    fn close_in_background(&self, mut sdk_connection: McpConnection, connection: Arc<ActiveConnection>) {
        let cancel = self.shared.cancel.clone();
        let call_timeout = self.shared.timings.call_timeout;
        self.shared.spawn_task(async move {
            connection.calls.close();
            tokio::select! {
                () = cancel.cancelled() => {}
                () = connection.handler.wait_until_closed() => {}
                _ = tokio::time::timeout(call_timeout, connection.calls.wait()) => {}
            }
            if !matches!(sdk_connection.close_with_timeout(CLOSE_TIMEOUT).await, Ok(Some(_))) {
                tracing::warn!(server = connection.handler.server(), "mcp connection close timed out");
            }
        });
    }

    fn filter_tools(&self, discovered: &mut DiscoveredTools) {
        if let Some(filter) = self.shared.tool_filters.get(&*self.server.name) {
            filter.apply(discovered);
        }
    }

    fn complete_refreshes(&mut self) {
        for request in self.pending_refreshes.drain(..) {
            // The requester may have stopped waiting.
            let _ = request.send(());
        }
    }
}

/// Explains a failed discovery right after connecting. `limit` is what connecting and discovery may take together.
fn discovery_failure(error: DiscoveryError, limit: Duration) -> ConnectError {
    match error {
        DiscoveryError::Timeout(_) => ConnectError::Timeout(DiscoveryError::Timeout(limit).to_string().into()),
        DiscoveryError::Request(source) => {
            ConnectError::Handshake(ErrorReason::with_source("cannot list the server's tools", source))
        }
    }
}
