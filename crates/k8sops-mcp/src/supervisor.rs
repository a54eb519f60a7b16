//! One server: what is known of it, and the task that keeps it connected.
//!
//! ```text
//!          ┌──────────────── backoff ◀────────────────┐
//!          ▼                                          │
//! start ─▶ connect + discover ─▶ attend ─▶ lost ──────┤
//!          └──────── failed ──────────────────────────┘      (until cancelled)
//! ```

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use rmcp::{
    RoleClient,
    service::{ClientCacheConfig, Peer, ServiceError},
};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval_at},
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use crate::{
    ConnectionHandler, McpConnection, McpConnector, RemoteTool, ServerStatus,
    tool_discovery::{Dropped, Fault, discover, listen},
    transport::handshake::{ConnectError, quote},
    transport::http_connector,
};

const FIRST_BACKOFF: Duration = Duration::from_millis(500);
/// Two looks at a server that were not asked for by a user are at least this far apart, whatever it notifies.
const MIN_CHECK_GAP: Duration = Duration::from_millis(250);
/// How long one connection may take to close: the drain of the SDK, then twice the grace of a child.
const CLOSE_LIMIT: Duration = Duration::from_secs(8);
/// Requests to look at once that may wait; more than these are one of them.
pub(crate) const MAX_WAITING: usize = 16;

/// What is known of a server; shared by its supervisor (who alone writes) and all callers.
pub(crate) struct Server {
    pub(crate) name: Arc<str>,
    /// Replaced as a whole, so that a reader never sees half a change.
    status: ArcSwap<ServerStatus>,
    /// `Some` exactly while `status.connected`.
    live: ArcSwapOption<Live>,
    recheck: Notify,
    looks: mpsc::Sender<oneshot::Sender<()>>,
    /// Counts changes of the hub; only ever grows.
    changes: watch::Sender<u64>,
    /// Cancelled when the first attempt to connect has ended.
    pub(crate) tried: CancellationToken,
}

/// A connection that calls can be made on.
pub(crate) struct Live {
    pub(crate) peer: Peer<RoleClient>,
    pub(crate) handler: ConnectionHandler,
    /// One token per call in flight.
    calls: TaskTracker,
    pub(crate) dropped: Dropped,
}

impl Live {
    fn new(peer: Peer<RoleClient>, handler: ConnectionHandler) -> Self {
        Self { peer, handler, calls: TaskTracker::new(), dropped: Dropped::default() }
    }

    /// To be held for as long as a call is in flight.
    pub(crate) fn in_flight(&self) -> TaskTrackerToken {
        self.calls.token()
    }
}

impl Server {
    pub(crate) fn new(
        name: String,
        transport: &'static str,
        changes: watch::Sender<u64>,
    ) -> (Arc<Self>, mpsc::Receiver<oneshot::Sender<()>>) {
        let (looks, asked) = mpsc::channel(MAX_WAITING);
        let status = ServerStatus {
            name: name.clone(),
            transport,
            connected: false,
            error: Some("not connected yet".to_owned()),
            tools: Arc::default(),
        };
        let server = Self {
            name: name.into(),
            status: ArcSwap::from_pointee(status),
            live: ArcSwapOption::empty(),
            recheck: Notify::new(),
            looks,
            changes,
            tried: CancellationToken::new(),
        };
        (Arc::new(server), asked)
    }

    pub(crate) fn status(&self) -> Arc<ServerStatus> {
        self.status.load_full()
    }

    pub(crate) fn live(&self) -> Option<Arc<Live>> {
        self.live.load_full()
    }

    /// Has the supervisor see soon whether the server is still there.
    pub(crate) fn recheck(&self) {
        self.recheck.notify_one();
    }

    /// Has the supervisor discover now. The receiver resolves when it has; `None` when enough others wait for that.
    pub(crate) fn look(&self) -> Option<oneshot::Receiver<()>> {
        let (done, looked) = oneshot::channel();
        self.looks.try_send(done).ok().map(|()| looked)
    }

    fn publish(&self, live: Option<Arc<Live>>, error: Option<String>, tools: Option<Vec<RemoteTool>>) {
        let connected = live.is_some();
        self.live.store(live);
        self.show(connected, error, tools);
    }

    /// Makes known how the server stands.
    pub(crate) fn show(&self, connected: bool, error: Option<String>, tools: Option<Vec<RemoteTool>>) {
        let before = self.status.load_full();
        let tools = match tools {
            Some(tools) if *tools != *before.tools => tools.into(),
            _ => before.tools.clone(),
        };
        let after = ServerStatus { name: before.name.clone(), transport: before.transport, connected, error, tools };
        if after != *before {
            self.status.store(Arc::new(after));
            self.changes.send_modify(|n| *n += 1);
        }
        // Last: whoever waits for it looks at the tools next.
        self.tried.cancel();
    }
}

/// The durations that a supervisor goes by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timings {
    pub(crate) connect: Duration,
    pub(crate) call: Duration,
    pub(crate) health: Duration,
    pub(crate) max_backoff: Duration,
}

/// What all supervisors of a hub have in common.
#[derive(Clone)]
pub(crate) struct Crew {
    pub(crate) timings: Timings,
    pub(crate) max_message_bytes: usize,
    pub(crate) cancel: CancellationToken,
    /// Cancelled when connections must end at once.
    pub(crate) hurry: CancellationToken,
    /// Of the whole process.
    pub(crate) tracker: TaskTracker,
    /// Of the hub: what [`McpHub::close`](crate::McpHub::close) waits for.
    pub(crate) tasks: TaskTracker,
}

impl Crew {
    /// Starts to keep a server connected.
    pub(crate) fn supervise(
        &self,
        name: String,
        connector: Arc<dyn McpConnector>,
        changes: watch::Sender<u64>,
    ) -> Arc<Server> {
        let (server, asked) = Server::new(name, connector.transport(), changes);
        let supervisor = Supervisor { server: server.clone(), connector, asked, crew: self.clone() };
        self.spawn(supervisor.run());
        server
    }

    /// Runs a task that the hub waits for at its end.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(self.tasks.track_future(task));
    }
}

/// Keeps one server connected until cancelled.
struct Supervisor {
    server: Arc<Server>,
    connector: Arc<dyn McpConnector>,
    asked: mpsc::Receiver<oneshot::Sender<()>>,
    crew: Crew,
}

/// How a connection ended.
enum End {
    Stopped,
    Lost(String),
}

impl Supervisor {
    async fn run(mut self) {
        let mut backoff = Backoff::new(self.crew.timings.max_backoff);
        let mut waiting = Vec::new();
        let cancel = self.crew.cancel.clone();
        loop {
            match self.connect().await {
                Ok((connection, live, tools)) => {
                    tracing::info!(server = &*self.server.name, tools = tools.len(), "MCP server connected");
                    self.server.publish(Some(live.clone()), None, Some(tools));
                    answer(&mut waiting);
                    let since = Instant::now();
                    let end = self.attend(&live, &mut waiting).await;
                    if let End::Lost(reason) = &end {
                        tracing::warn!(server = &*self.server.name, reason, "MCP server lost");
                        self.server.publish(None, Some(reason.clone()), None);
                    }
                    self.retire(connection, live);
                    if matches!(end, End::Stopped) {
                        break;
                    }
                    // A server that dies soon after each start is not hammered.
                    if since.elapsed() > self.crew.timings.max_backoff {
                        backoff = Backoff::new(self.crew.timings.max_backoff);
                    }
                }
                Err(_) if cancel.is_cancelled() => break,
                Err(error) => {
                    let error = error.to_string();
                    if self.server.status().error.as_deref() != Some(&error) {
                        tracing::warn!(server = &*self.server.name, error, "MCP server not connected");
                    }
                    self.server.publish(None, Some(error), None);
                }
            }
            answer(&mut waiting);
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                Some(asked) = self.asked.recv() => waiting.push(asked),
                () = tokio::time::sleep(backoff.next()) => {}
            }
        }
        self.server.publish(None, Some("stopped".to_owned()), None);
    }

    /// Connects and discovers the tools. When it is cancelled it ends with an error, and has left nothing behind then.
    async fn connect(&self) -> Result<(McpConnection, Arc<Live>, Vec<RemoteTool>), ConnectError> {
        let limit = self.crew.timings.connect;
        let deadline = Instant::now() + limit;
        let handler =
            ConnectionHandler::of_crew(self.server.name.clone(), self.crew.hurry.clone(), self.crew.max_message_bytes);
        let stopped = || Fault::Failed("the service is stopping".to_owned());
        let mut connection = tokio::select! {
            biased;
            () = self.crew.cancel.cancelled() => return Err(stopped().into_connect_error(limit)),
            connection = self.connector.connect(handler, limit) => connection?,
        };
        let (peer, handler) = (connection.peer().clone(), connection.service().clone());
        // By default the SDK answers a list from its cache, if need be from a stale one while the server is down.
        peer.set_response_cache_config(ClientCacheConfig::disabled()).await;
        let live = Live::new(peer, handler);
        let discovered = tokio::select! {
            biased;
            () = self.crew.cancel.cancelled() => Err(stopped()),
            discovered = discover(&live, deadline.saturating_duration_since(Instant::now())) => discovered,
        };
        match discovered {
            Ok(tools) => Ok((connection, Arc::new(live), tools)),
            Err(fault) => {
                let _ = connection.close_with_timeout(CLOSE_LIMIT).await;
                Err(fault.into_connect_error(limit))
            }
        }
    }

    /// Watches over a connection until it ends.
    async fn attend(&mut self, live: &Arc<Live>, waiting: &mut Vec<oneshot::Sender<()>>) -> End {
        let every = self.crew.timings.health;
        let mut health = interval_at(tokio::time::Instant::now() + every, every);
        health.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_check = Instant::now();
        let mut listening = std::pin::pin!(listen(live));
        loop {
            let mut hurry = false;
            tokio::select! {
                biased;
                () = self.crew.cancel.cancelled() => return End::Stopped,
                () = live.handler.closed() => return End::Lost(live.handler.close_reason()),
                Some(asked) = self.asked.recv() => {
                    waiting.push(asked);
                    hurry = true;
                }
                () = live.handler.tools_changed() => {}
                never = &mut listening => match never {},
                () = self.server.recheck.notified() => {}
                _ = health.tick() => {}
            }
            let check = async {
                if !hurry {
                    tokio::time::sleep(MIN_CHECK_GAP.saturating_sub(last_check.elapsed())).await;
                }
                discover(live, self.crew.timings.connect).await
            };
            let checked = tokio::select! {
                biased;
                () = self.crew.cancel.cancelled() => return End::Stopped,
                () = live.handler.closed() => return End::Lost(live.handler.close_reason()),
                checked = check => checked,
            };
            last_check = Instant::now();
            match checked {
                Ok(tools) => {
                    live.handler.hear();
                    self.server.publish(Some(live.clone()), None, Some(tools));
                }
                // Many servers do one thing at a time. While a call runs, silence is no sign of death; to take it for
                // one would end a server in the middle of a change. No call runs for longer than its limit, though.
                Err(Fault::Silent)
                    if !live.calls.is_empty()
                        && live.handler.silence() < self.crew.timings.call + self.crew.timings.connect =>
                {
                    tracing::debug!(server = &*self.server.name, "MCP server busy: no answer to tools/list");
                }
                Err(fault) if live.handler.is_closed() => {
                    tracing::debug!(server = &*self.server.name, fault = fault.to_string(), "check of an MCP server");
                    return End::Lost(live.handler.close_reason());
                }
                Err(fault) => return End::Lost(fault.into_connect_error(self.crew.timings.connect).to_string()),
            }
            answer(waiting);
        }
    }

    /// Ends a connection in the background. Calls that are still in flight on one that is not dead may end first.
    fn retire(&self, mut connection: McpConnection, live: Arc<Live>) {
        let (cancel, limit) = (self.crew.cancel.clone(), self.crew.timings.call);
        let retiring = async move {
            live.calls.close();
            tokio::select! {
                () = cancel.cancelled() => {}
                () = live.handler.closed() => {}
                _ = tokio::time::timeout(limit, live.calls.wait()) => {}
            }
            if !matches!(connection.close_with_timeout(CLOSE_LIMIT).await, Ok(Some(_))) {
                tracing::warn!(server = live.handler.server(), "the connection to an MCP server did not close in time");
            }
        };
        self.crew.spawn(retiring);
    }
}

fn answer(waiting: &mut Vec<oneshot::Sender<()>>) {
    for asked in waiting.drain(..) {
        // Whoever asked may have given up.
        let _ = asked.send(());
    }
}

/// A failure of the connection or of the server, in words.
pub(crate) fn service_error(error: &ServiceError, live: &Live) -> String {
    match error {
        ServiceError::McpError(e) => quote(&e.message),
        ServiceError::TransportSend(e) => http_connector::fault(e).into_text(),
        ServiceError::TransportClosed => live.handler.close_reason(),
        other => quote(&other.to_string()),
    }
}

/// Waits that double up to a limit, each shortened at random by up to a half, so that the replicas of a service do not
/// all come back to a server at the same instant.
struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    fn new(max: Duration) -> Self {
        Self { next: FIRST_BACKOFF.min(max), max }
    }

    fn next(&mut self) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(self.max);
        full.mul_f64(1.0 - fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_to_its_limit_with_jitter() {
        let mut backoff = Backoff::new(Duration::from_secs(3));
        for full in [500, 1000, 2000, 3000, 3000].map(Duration::from_millis) {
            let wait = backoff.next();
            assert!(wait <= full && wait >= full / 2, "{wait:?} of {full:?}");
        }
    }
}
