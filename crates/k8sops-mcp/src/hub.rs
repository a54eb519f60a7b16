//! All servers together.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use secrecy::SecretString;
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    CallError, CallOutput, McpCallContext, McpConnector, ServerStatus, call,
    server::{Crew, Server, Timings},
    users::PerUser,
};
use crate::McpOptions;

/// How long closing all servers may take: a bit more than one may.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);
/// How long ending all servers at once may take: the drain of the SDK, and the end of processes that were killed.
const KILL_LIMIT: Duration = Duration::from_secs(3);

/// Who is connected to a server.
enum Place {
    /// The service, for everybody.
    Shared(Arc<Server>),
    /// Every user with a token of their own.
    PerUser(Arc<PerUser>),
}

/// The MCP servers of this process.
pub struct McpHub {
    /// In the order of the configuration.
    servers: Vec<Arc<Server>>,
    by_name: BTreeMap<Arc<str>, Place>,
    changes: watch::Sender<u64>,
    cancel: CancellationToken,
    /// Cancelled when there is no time for servers to leave by themselves.
    hurry: CancellationToken,
    tracker: TaskTracker,
    /// The tasks of this hub alone; `tracker` also counts those of others.
    tasks: TaskTracker,
    connect_timeout: Duration,
}

impl McpHub {
    /// Starts to connect to all servers, each in a task of `tracker`, and returns at once. When `cancel` is cancelled
    /// the tasks close their connections and end.
    ///
    /// Of two servers of one name the first is taken; the configuration has no such two.
    pub fn start(
        servers: Vec<(String, Arc<dyn McpConnector>)>,
        config: &McpOptions,
        tracker: TaskTracker,
        cancel: &CancellationToken,
    ) -> Arc<Self> {
        let timings = Timings {
            connect: config.connect_timeout,
            call: config.call_timeout,
            health: config.health_interval,
            max_backoff: config.max_backoff,
        };
        let crew = Crew {
            timings,
            max_message_bytes: config.max_message_bytes,
            cancel: cancel.child_token(),
            hurry: CancellationToken::new(),
            tracker,
            tasks: TaskTracker::new(),
        };
        let mut hub = Self {
            servers: Vec::with_capacity(servers.len()),
            by_name: BTreeMap::new(),
            changes: watch::Sender::new(0),
            cancel: crew.cancel.clone(),
            hurry: crew.hurry.clone(),
            tracker: crew.tracker.clone(),
            tasks: crew.tasks.clone(),
            connect_timeout: config.connect_timeout,
        };
        for (name, connector) in servers {
            if hub.by_name.contains_key(&*name) {
                continue;
            }
            let (server, place) = if connector.is_per_user() {
                let (front, _) = Server::new(name, connector.transport(), hub.changes.clone());
                (front.clone(), Place::PerUser(PerUser::new(front, connector, crew.clone())))
            } else {
                let server = crew.supervise(name, connector, hub.changes.clone());
                (server.clone(), Place::Shared(server))
            };
            hub.by_name.insert(server.name.clone(), place);
            hub.servers.push(server);
        }
        Arc::new(hub)
    }

    /// Every server as it stands now, in the order of the configuration.
    pub fn statuses(&self) -> Vec<Arc<ServerStatus>> {
        self.servers.iter().map(|s| s.status()).collect()
    }

    /// Whether there is a server, and every one is connected.
    pub fn all_connected(&self) -> bool {
        !self.servers.is_empty() && self.servers.iter().all(|s| s.status().connected)
    }

    /// Waits until every server is connected, or the first attempt to connect to it has failed. Takes no longer than the time
    /// limit on connecting.
    pub async fn wait_for_first_attempts(&self) {
        let tried = join_all(self.servers.iter().map(|server| server.tried.cancelled()));
        let _ = tokio::time::timeout(self.connect_timeout, tried).await;
    }

    /// A counter that grows with every change of a status or of tools.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The counter's value.
    pub fn version(&self) -> u64 {
        *self.changes.borrow()
    }

    /// Discovers the tools of all servers anew, and tries those that are not connected at once. Takes no longer than the
    /// time limit on connecting; a server that is still at it then is left to it.
    pub async fn refresh_tools(&self) {
        let connections = self.by_name.values().flat_map(|place| match place {
            Place::Shared(server) => vec![server.clone()],
            Place::PerUser(users) => users.servers(),
        });
        let looks = connections.filter_map(|server| server.look()).collect::<Vec<_>>();
        let _ = tokio::time::timeout(self.connect_timeout, join_all(looks)).await;
    }

    /// Calls a tool by its name on the server. The request is sent once and never again, whatever happens to it. Dropping
    /// the future gives the call up, and tells the server so.
    ///
    /// The context's `progress` gets values that only grow, and none after this has returned.
    ///
    /// # Errors
    /// [`CallError`], which says whether the request can have had an effect.
    pub async fn call_tool(
        &self,
        server: &str,
        tool: &str,
        arguments: Map<String, Value>,
        context: McpCallContext,
    ) -> Result<CallOutput, CallError> {
        match self.by_name.get(server) {
            None => Err(CallError::NotSent(format!("there is no MCP server named {server:?}"))),
            Some(Place::Shared(server)) => call::call(server, tool, arguments, context, &self.tracker).await,
            Some(Place::PerUser(users)) => {
                let link = users.link(context.user_token.as_ref()).await?;
                call::call(&link.server, tool, arguments, context, &self.tracker).await
            }
        }
    }

    /// Connects the user with this token to the servers that want every user's own, so that their tools become known.
    /// Takes no longer than the time limit on connecting; what fails is told again by the first call.
    pub async fn connect_user(&self, token: &SecretString) {
        let users = self.by_name.values().filter_map(|place| match place {
            Place::Shared(_) => None,
            Place::PerUser(users) => Some(users),
        });
        for outcome in join_all(users.map(|users| users.link(Some(token)))).await {
            if let Err(error) = outcome {
                tracing::warn!(error = error.to_string(), "a user cannot be connected");
            }
        }
    }

    /// Closes all connections at once and waits until they are closed; child processes are gone then. Calls in flight
    /// break. May be called more than once.
    pub async fn close(&self) {
        self.cancel.cancel();
        self.tasks.close();
        if tokio::time::timeout(CLOSE_LIMIT, self.tasks.wait()).await.is_err() {
            tracing::warn!("not all MCP servers closed in time");
            self.close_immediately().await;
        }
    }

    /// As [`close`](Self::close), and child processes get no time to leave by themselves: a process that ends must not leave
    /// them behind, as they are in process groups of their own.
    pub async fn close_immediately(&self) {
        self.cancel.cancel();
        self.hurry.cancel();
        self.tasks.close();
        if tokio::time::timeout(KILL_LIMIT, self.tasks.wait()).await.is_err() {
            tracing::warn!("not all MCP servers could be ended");
        }
    }
}
