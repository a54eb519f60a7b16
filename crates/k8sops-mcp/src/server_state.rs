//! What is known of one server. Its supervisor writes it, and calls read it.

use std::{sync::Arc, time::Duration};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{ServerStatus, active_connection::ActiveConnection, tool_discovery::DiscoveredTools};

/// Refresh requests that may wait. Beyond this number, a request is served by one of the waiting ones.
const MAX_REFRESH_REQUESTS: usize = 16;

/// Completes a request to refresh the tools now.
pub(crate) type RefreshRequest = oneshot::Sender<()>;

/// The error of a server whose first attempt to connect has not ended.
fn starting_text(connect_limit: Duration) -> String {
    format!("starting, for up to {} s (K8SOPS_MCP_CONNECT_TIMEOUT)", connect_limit.as_secs_f32())
}

/// What is known of one server.
pub(crate) struct ServerState {
    pub(crate) name: Arc<str>,
    /// Replaced as a whole, so that readers never see half of a change.
    status: ArcSwap<ServerStatus>,
    /// `Some` exactly while `status.connected`, except for servers that every user connects to separately.
    connection: ArcSwapOption<ActiveConnection>,
    /// Until when calls wait for a connection: for the connect limit after the start and after each loss. `None` after the
    /// supervisor has stopped.
    calls_wait_until: Mutex<Option<Instant>>,
    connect_limit: Duration,
    check_requested: Notify,
    refresh_requests: mpsc::Sender<RefreshRequest>,
    /// Counts the changes of all servers of the hub.
    changes: watch::Sender<u64>,
    /// Cancelled when the first attempt to connect has ended.
    pub(crate) first_attempt_ended: CancellationToken,
}

impl ServerState {
    /// Creates the state of a server that is not connected, and the receiver of its refresh requests.
    pub(crate) fn new(
        name: String,
        transport: &'static str,
        connect_limit: Duration,
        changes: watch::Sender<u64>,
    ) -> (Arc<Self>, mpsc::Receiver<RefreshRequest>) {
        let (refresh_requests, receiver) = mpsc::channel(MAX_REFRESH_REQUESTS);
        let status = ServerStatus {
            name: name.clone(),
            transport,
            connected: false,
            starting: true,
            error: Some(starting_text(connect_limit)),
            identity: Arc::default(),
            tools: Arc::default(),
            skipped: Arc::default(),
        };
        let state = Self {
            name: name.into(),
            status: ArcSwap::from_pointee(status),
            connection: ArcSwapOption::empty(),
            calls_wait_until: Mutex::new(Some(Instant::now() + connect_limit)),
            connect_limit,
            check_requested: Notify::new(),
            refresh_requests,
            changes,
            first_attempt_ended: CancellationToken::new(),
        };
        (Arc::new(state), receiver)
    }

    pub(crate) fn status(&self) -> Arc<ServerStatus> {
        self.status.load_full()
    }

    pub(crate) fn active_connection(&self) -> Option<Arc<ActiveConnection>> {
        self.connection.load_full()
    }

    /// Returns the connection. A server that was lost a moment ago, or that is starting, is waited for, but no longer than
    /// its connect limit and `limit`: nothing was sent yet, and most servers are back within seconds.
    pub(crate) async fn wait_for_connection(&self, limit: Duration) -> Option<Arc<ActiveConnection>> {
        let mut changes = self.changes.subscribe();
        let deadline = Instant::now() + limit;
        loop {
            if let Some(connection) = self.active_connection() {
                return Some(connection);
            }
            let wait_until = (*self.calls_wait_until.lock())?.min(deadline);
            if tokio::time::timeout_at(wait_until, changes.changed()).await.is_err() {
                return self.active_connection();
            }
        }
    }

    /// Records that no connection will follow, so that calls do not wait for one.
    pub(crate) fn mark_stopped(&self) {
        *self.calls_wait_until.lock() = None;
        self.clear_connection("stopped".to_owned());
    }

    /// Asks the supervisor to check soon whether the server is still there.
    pub(crate) fn request_check(&self) {
        self.check_requested.notify_one();
    }

    /// Resolves when a check was requested since the last time that this resolved.
    pub(crate) async fn wait_for_check_request(&self) {
        self.check_requested.notified().await;
    }

    /// Asks the supervisor to discover the tools now. The receiver resolves when it has; `None` if enough requests wait.
    pub(crate) fn request_refresh(&self) -> Option<oneshot::Receiver<()>> {
        let (request, refreshed) = oneshot::channel();
        self.refresh_requests.try_send(request).ok().map(|()| refreshed)
    }

    /// Publishes a connection and the tools that were discovered on it.
    pub(crate) fn set_connection(&self, connection: Arc<ActiveConnection>, discovered: DiscoveredTools) {
        self.connection.store(Some(connection));
        self.publish_connected(discovered);
    }

    /// Publishes that the server is not connected.
    pub(crate) fn clear_connection(&self, error: String) {
        if self.connection.swap(None).is_some() {
            let mut wait_until = self.calls_wait_until.lock();
            *wait_until = wait_until.map(|_| Instant::now() + self.connect_limit);
        }
        self.publish_disconnected(error);
    }

    /// Publishes the status `connected`, without a connection that is shared by all calls.
    pub(crate) fn publish_connected(&self, discovered: DiscoveredTools) {
        let before = self.status.load_full();
        let DiscoveredTools { tools, skipped, identity } = discovered;
        let tools = if *tools == *before.tools { before.tools.clone() } else { tools.into() };
        let skipped = skipped.into();
        let connected =
            ServerStatus { connected: true, error: None, identity, tools, skipped, ..before.as_ref().clone() };
        self.publish(&before, connected);
    }

    /// Publishes the status `disconnected`. The tools stay known.
    pub(crate) fn publish_disconnected(&self, error: String) {
        let before = self.status.load_full();
        self.publish(&before, ServerStatus { connected: false, error: Some(error), ..before.as_ref().clone() });
    }

    fn publish(&self, before: &ServerStatus, after: ServerStatus) {
        let after = ServerStatus { starting: false, ..after };
        if after != *before {
            self.status.store(Arc::new(after));
            self.changes.send_modify(|count| *count += 1);
        }
        // After the store: who waits for the first attempt reads the status next.
        self.first_attempt_ended.cancel();
    }
}
