//! Our end of one connection: what a server may say to us without being asked.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use rmcp::{
    ClientHandler, RoleClient,
    model::{
        ClientCapabilities, ClientConfig, Implementation, ProgressNotificationParam, ProgressToken, ProtocolVersion,
    },
    service::NotificationContext,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::CallProgress;

/// Takes the progress of a call; must not block.
pub type OnProgress = Arc<dyn Fn(CallProgress) + Send + Sync>;

/// Receives what a server sends on its own: progress, changes of its tools, and the end of the connection.
///
/// It declares no capability: requests for sampling, roots or input of a user (elicitation) are not announced, and
/// declined when they come all the same. One handler lives as long as one connection.
#[derive(Clone)]
pub struct Handler(Arc<Inner>);

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handler").field(&self.0.server).finish()
    }
}

struct Inner {
    server: Arc<str>,
    /// Who waits for the progress of which request. A `std` lock: held for a look-up only, never across an await.
    routes: Mutex<HashMap<ProgressToken, Route>>,
    /// Held while a request is sent and its token entered in `routes`: the SDK tells the token only after sending, so
    /// progress that overtakes us has to wait here instead of finding no route.
    sending: tokio::sync::Mutex<()>,
    tools_changed: Notify,
    closed: CancellationToken,
    /// Cancelled when a server that does not leave by itself is to be ended at once.
    hurry: CancellationToken,
    close_reason: OnceLock<String>,
}

struct Route {
    /// The highest progress passed on; the SDK handles each notification in a task of its own and keeps no order.
    last: f64,
    sink: OnProgress,
}

impl Handler {
    /// For one connection to the server of this name.
    pub fn new(server: Arc<str>) -> Self {
        Self::hurried_by(server, CancellationToken::new())
    }

    /// For one connection whose end is hurried when `hurry` is cancelled.
    pub(super) fn hurried_by(server: Arc<str>, hurry: CancellationToken) -> Self {
        Self(Arc::new(Inner {
            server,
            routes: Mutex::default(),
            sending: tokio::sync::Mutex::default(),
            tools_changed: Notify::new(),
            closed: CancellationToken::new(),
            hurry,
            close_reason: OnceLock::new(),
        }))
    }

    /// For another connection to the same server.
    pub(super) fn renewed(&self) -> Self {
        Self::hurried_by(self.0.server.clone(), self.0.hurry.clone())
    }

    /// Resolves when there is no time for a server to leave by itself.
    pub(super) async fn hurried(&self) {
        self.0.hurry.cancelled().await;
    }

    /// The server's name in the configuration, for logs.
    pub fn server(&self) -> &str {
        &self.0.server
    }

    /// Says why the connection is about to end; the first reason stays.
    pub(super) fn set_close_reason(&self, reason: String) {
        let _ = self.0.close_reason.set(reason);
    }

    /// Says that nothing more will come from the server.
    pub(super) fn mark_closed(&self) {
        self.0.closed.cancel();
    }

    /// Resolves when the connection has ended.
    pub(super) async fn closed(&self) {
        self.0.closed.cancelled().await;
    }

    /// Whether the connection has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.0.closed.is_cancelled()
    }

    /// Why the connection ended, in words.
    pub(super) fn close_reason(&self) -> String {
        self.0.close_reason.get().cloned().unwrap_or_else(|| "the server closed the connection".to_owned())
    }

    /// Why the connection ended, when more is known than that it did.
    pub(super) fn known_close_reason(&self) -> Option<String> {
        self.0.close_reason.get().cloned()
    }

    /// Resolves when the server has said that its tools changed, since the last time this resolved.
    pub(super) async fn tools_changed(&self) {
        self.0.tools_changed.notified().await;
    }

    /// To be held from before a request is sent until its progress has a [`route`](Self::route).
    pub(super) async fn sending(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.sending.lock().await
    }

    /// Passes the progress of the request with this token on, until the returned guard is dropped.
    pub(super) fn route(&self, token: ProgressToken, sink: OnProgress) -> RouteGuard {
        self.routes().insert(token.clone(), Route { last: f64::NEG_INFINITY, sink });
        RouteGuard { handler: self.clone(), token }
    }

    fn routes(&self) -> MutexGuard<'_, HashMap<ProgressToken, Route>> {
        // A sink that panicked leaves the map whole.
        self.0.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn knows(&self, token: &ProgressToken) -> bool {
        self.routes().contains_key(token)
    }

    fn forward(&self, params: ProgressNotificationParam) {
        let mut routes = self.routes();
        let Some(route) = routes.get_mut(&params.progress_token) else { return };
        if params.progress <= route.last || params.progress.is_nan() {
            return;
        }
        route.last = params.progress;
        // Called under the lock, so that two notifications cannot swap places between the test and the call.
        (route.sink)(CallProgress { progress: params.progress, total: params.total, message: params.message });
    }
}

impl ClientHandler for Handler {
    fn get_info(&self) -> ClientConfig {
        // The newest version that has a handshake: proposing one that knows none in a handshake is an error, and the
        // lifecycle that asks with `server/discover` names its versions itself.
        ClientConfig::new(ClientCapabilities::default(), Implementation::new("k8sops", env!("CARGO_PKG_VERSION")))
            .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
    }

    async fn on_progress(&self, params: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        if !self.knows(&params.progress_token) {
            drop(self.sending().await);
        }
        self.forward(params);
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.0.tools_changed.notify_one();
    }
}

/// Ends a route when dropped.
pub(super) struct RouteGuard {
    handler: Handler,
    token: ProgressToken,
}

impl Drop for RouteGuard {
    fn drop(&mut self) {
        self.handler.routes().remove(&self.token);
    }
}
