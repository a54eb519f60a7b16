//! All MCP servers of the process.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use k8sops_core::ErrorChain;
use secrecy::SecretString;
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    CallError, CallOutput, McpCallContext, McpConnector, McpOptions, ServerScope, ServerStatus,
    per_user::{ConnectionOwner, PerUserServer},
    server_state::ServerState,
    supervisor::{SupervisorShared, SupervisorTimings},
    tool_call::call_tool,
};

/// Longest time that closing all servers may take; a little longer than one may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time that ending all servers without grace period may take: the drain of the SDK, and the end of killed processes.
const IMMEDIATE_CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest time that a connected server may take to list its tools, and that a run waits for servers that are starting.
const MAX_CHECK_TIMEOUT: Duration = Duration::from_secs(20);

/// Who is connected to a server.
enum HubServer {
    /// The service, for all users.
    Shared(Arc<ServerState>),
    /// Every user with their own token, or every user or session with a process.
    PerUser(Arc<PerUserServer>),
}

/// What the operator says of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperatorNote {
    /// The cluster that the server works on, as people call it.
    pub cluster: Option<String>,
    /// How its tools are to be used.
    pub instructions: Option<String>,
}

/// The MCP servers of this process.
pub struct McpHub {
    /// In the order of the configuration.
    states: Vec<Arc<ServerState>>,
    by_name: BTreeMap<Arc<str>, HubServer>,
    notes: BTreeMap<String, OperatorNote>,
    changes: watch::Sender<u64>,
    shared: SupervisorShared,
}

impl McpHub {
    /// Starts to connect to all servers and returns at once. Every connection is kept by a task of `tracker`; when `cancel` is
    /// cancelled, the tasks close their connections and end.
    ///
    /// If two servers have the same name, the second is ignored. The configuration rejects that.
    pub fn start(
        servers: Vec<(String, Arc<dyn McpConnector>)>,
        options: &McpOptions,
        tracker: TaskTracker,
        cancel: &CancellationToken,
    ) -> Arc<Self> {
        let timings = SupervisorTimings {
            connect_timeout: options.connect_timeout,
            check_timeout: options.connect_timeout.min(MAX_CHECK_TIMEOUT),
            call_timeout: options.call_timeout,
            health_interval: options.health_interval,
            max_backoff: options.max_backoff,
        };
        let shared = SupervisorShared {
            timings,
            max_message_bytes: options.max_message_bytes,
            tool_filters: Arc::new(
                options.servers.iter().map(|server| (server.name.clone(), server.tools.clone())).collect(),
            ),
            cancel: cancel.child_token(),
            immediate_shutdown: CancellationToken::new(),
            process_tasks: tracker,
            hub_tasks: TaskTracker::new(),
        };
        let changes = watch::Sender::new(0);
        let mut states = Vec::with_capacity(servers.len());
        let mut by_name = BTreeMap::new();
        for (name, connector) in servers {
            if by_name.contains_key(&*name) {
                continue;
            }
            let owner = ConnectionOwner::find(&*connector);
            let state = match owner {
                Some(ConnectionOwner::Token) => {
                    ServerState::new(name, connector.transport(), timings.connect_timeout, changes.clone()).0
                }
                _ => shared.start_supervisor(name, connector.clone(), changes.clone()),
            };
            let server = match owner {
                Some(owner) => HubServer::PerUser(PerUserServer::new(state.clone(), owner, connector, shared.clone())),
                None => HubServer::Shared(state.clone()),
            };
            by_name.insert(state.name.clone(), server);
            states.push(state);
        }
        let notes = options.servers.iter().map(|server| {
            let note = OperatorNote { cluster: server.cluster.clone(), instructions: server.instructions.clone() };
            (server.name.clone(), note)
        });
        Arc::new(Self { states, by_name, notes: notes.collect(), changes, shared })
    }

    /// Returns the cluster that a server works on, as the operator calls it.
    pub fn cluster_of(&self, server: &str) -> Option<&str> {
        self.notes.get(server)?.cluster.as_deref()
    }

    /// Returns what the operator says of a server.
    pub fn operator_note(&self, server: &str) -> OperatorNote {
        self.notes.get(server).cloned().unwrap_or_default()
    }

    /// Returns the status of every server, in the order of the configuration.
    pub fn statuses(&self) -> Vec<Arc<ServerStatus>> {
        self.states.iter().map(|state| state.status()).collect()
    }

    /// Whether there is a server, and every server is connected.
    pub fn all_connected(&self) -> bool {
        !self.states.is_empty() && self.states.iter().all(|state| state.status().connected)
    }

    /// Waits until the first attempt to connect to every server has succeeded or failed, but no longer than 20 s or the
    /// connect timeout: a server that takes longer is still starting, and calls of its tools wait for it.
    pub async fn wait_for_first_attempts(&self) {
        let attempts = join_all(self.states.iter().map(|state| state.first_attempt_ended.cancelled()));
        let _ = tokio::time::timeout(self.shared.timings.check_timeout, attempts).await;
    }

    /// Waits until the first attempt to connect to every server has ended, however long a server takes to start.
    pub async fn wait_until_started(&self) {
        join_all(self.states.iter().map(|state| state.first_attempt_ended.cancelled())).await;
    }

    /// Whose calls one process of a server serves.
    pub fn scope_of(&self, server: &str) -> ServerScope {
        match self.by_name.get(server) {
            Some(HubServer::PerUser(per_user)) => match per_user.owner {
                ConnectionOwner::Token => ServerScope::Shared,
                ConnectionOwner::User => ServerScope::User,
                ConnectionOwner::Session => ServerScope::Session,
            },
            Some(HubServer::Shared(_)) | None => ServerScope::Shared,
        }
    }

    /// Subscribes to a counter that grows with every change of a status or of tools.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The value of the counter that [`changes`](Self::changes) subscribes to.
    pub fn version(&self) -> u64 {
        *self.changes.borrow()
    }

    /// Discovers the tools of all servers now, and tries to connect to those that are not connected. Returns after 20 s or the
    /// connect timeout at the latest; slower servers continue in the background.
    pub async fn refresh_tools(&self) {
        let states = self.by_name.values().flat_map(|server| match server {
            HubServer::Shared(state) => vec![state.clone()],
            HubServer::PerUser(per_user) => {
                let mut states = per_user.user_states();
                states.extend((per_user.owner != ConnectionOwner::Token).then(|| per_user.public_state.clone()));
                states
            }
        });
        let refreshes = states.filter_map(|state| state.request_refresh()).collect::<Vec<_>>();
        let _ = tokio::time::timeout(self.shared.timings.check_timeout, join_all(refreshes)).await;
    }

    /// Calls a tool by its name on the server. The request is sent once and never retried. Dropping the future cancels the
    /// call on the server.
    ///
    /// The context's `progress` receives increasing values, and none after this has returned.
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
        let tasks = &self.shared.process_tasks;
        match self.by_name.get(server) {
            None => Err(CallError::NotSent(format!("there is no MCP server named {server:?}").into())),
            Some(HubServer::Shared(state)) => call_tool(state, tool, arguments, context, tasks).await,
            Some(HubServer::PerUser(per_user)) => {
                let connection = per_user.acquire_for_call(&context).await?;
                call_tool(&connection.server, tool, arguments, context, tasks).await
            }
        }
    }

    /// Connects the user with this token to the servers that require users' own tokens, so that their tools become known.
    /// Returns after the connect timeout at the latest. A failure is logged, and the first call reports it again.
    pub async fn connect_user(&self, token: &SecretString) {
        let per_user_servers = self.by_name.values().filter_map(|server| match server {
            HubServer::Shared(_) => None,
            HubServer::PerUser(per_user) => Some(per_user).filter(|server| server.owner == ConnectionOwner::Token),
        });
        let attempts = per_user_servers.map(|per_user| per_user.acquire_with_token(Some(token)));
        for outcome in join_all(attempts).await {
            if let Err(error) = outcome {
                tracing::warn!(error = %ErrorChain(&error), "mcp user connection failed");
            }
        }
    }

    /// Closes all connections and waits until they are closed and all child processes have ended. Calls in flight fail. It may
    /// be called more than once.
    pub async fn close(&self) {
        self.shared.cancel.cancel();
        self.shared.hub_tasks.close();
        if tokio::time::timeout(CLOSE_TIMEOUT, self.shared.hub_tasks.wait()).await.is_err() {
            tracing::warn!("mcp servers did not close in time, killing them");
            self.close_immediately().await;
        }
    }

    /// Closes like [`close`](Self::close), but child processes get no time to exit by themselves. A process that is about to
    /// exit must not leave them behind, because they are in process groups of their own.
    pub async fn close_immediately(&self) {
        self.shared.cancel.cancel();
        self.shared.immediate_shutdown.cancel();
        self.shared.hub_tasks.close();
        if tokio::time::timeout(IMMEDIATE_CLOSE_TIMEOUT, self.shared.hub_tasks.wait()).await.is_err() {
            tracing::warn!("mcp servers could not be killed in time");
        }
    }
}
