//! The client side of one connection: handles what a server sends on its own.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rmcp::{
    ClientHandler, ErrorData, RoleClient,
    model::{
        ClientCapabilities, ClientConfig, CustomRequest, CustomResult, ElicitRequestParams, ElicitResult,
        ElicitationAction, ElicitationCapability, ErrorCode, FormElicitationCapability, Implementation,
        ProgressNotificationParam, ProgressToken, ProtocolVersion, RequestId, UrlElicitationCapability,
    },
    service::{InboundStreamOrigin, RequestContext},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{close_reason::CloseReason, elicitation_relay::relay_elicitation, in_flight_call::InFlightCall};

/// Progress notifications kept for requests whose token is not known yet. Beyond this number the oldest is dropped.
const MAX_EARLY_PROGRESS: usize = 32;
/// Largest message of a server if nothing else is configured.
const DEFAULT_MAX_MESSAGE_BYTES: usize = 256 << 20;
/// Open elicitations of one server, to all users together; more are declined.
const MAX_OPEN_ELICITATIONS: usize = 512;

/// Handles what a server sends on its own: progress, elicitations, changes of its tools, and the end of the connection.
///
/// It announces elicitation as its only capability. Requests for sampling or roots are rejected. One handler lives as long as
/// one connection.
#[derive(Clone)]
pub struct ConnectionHandler(Arc<HandlerState>);

impl fmt::Debug for ConnectionHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConnectionHandler").field(&self.0.server).finish()
    }
}

struct HandlerState {
    server: Arc<str>,
    max_message_bytes: usize,
    /// Never held across an await.
    calls: Mutex<RegisteredCalls>,
    /// Held while a request is sent and registered in `calls`. The SDK returns the id of a request only after sending it, so
    /// an elicitation that arrives first waits for this lock instead of finding no call.
    send_lock: tokio::sync::Mutex<()>,
    tools_changed: Notify,
    closed: CancellationToken,
    /// Cancelled when servers get no time to exit by themselves.
    immediate_shutdown: CancellationToken,
    close_reason: OnceLock<CloseReason>,
    /// When the server last answered or reported progress.
    last_activity: Mutex<Instant>,
    open_elicitations: AtomicUsize,
}

#[derive(Default)]
struct RegisteredCalls {
    next_sequence: u64,
    by_request: HashMap<RequestId, RegisteredCall>,
    by_token: HashMap<ProgressToken, Arc<InFlightCall>>,
    /// Progress of requests that are being sent. It arrives on the connection's own task, which must not wait for `send_lock`.
    early_progress: VecDeque<ProgressNotificationParam>,
}

struct RegisteredCall {
    /// Counts up, so that the oldest call has the smallest.
    sequence: u64,
    call: Arc<InFlightCall>,
}

impl ConnectionHandler {
    /// Creates the handler of one connection to the named server.
    pub fn new(server: Arc<str>) -> Self {
        Self::with_options(server, CancellationToken::new(), DEFAULT_MAX_MESSAGE_BYTES)
    }

    /// Creates the handler of one connection. When `immediate_shutdown` is cancelled, the server is ended without grace period.
    pub(crate) fn with_options(
        server: Arc<str>,
        immediate_shutdown: CancellationToken,
        max_message_bytes: usize,
    ) -> Self {
        Self(Arc::new(HandlerState {
            server,
            max_message_bytes,
            calls: Mutex::default(),
            send_lock: tokio::sync::Mutex::default(),
            tools_changed: Notify::new(),
            closed: CancellationToken::new(),
            immediate_shutdown,
            close_reason: OnceLock::new(),
            last_activity: Mutex::new(Instant::now()),
            open_elicitations: AtomicUsize::new(0),
        }))
    }

    /// Creates a handler with the same options for another connection to the same server.
    pub(crate) fn new_for_retry(&self) -> Self {
        Self::with_options(self.0.server.clone(), self.0.immediate_shutdown.clone(), self.0.max_message_bytes)
    }

    /// The name of the server in the configuration.
    pub fn server(&self) -> &str {
        &self.0.server
    }

    /// The largest message that is accepted from the server.
    pub(crate) fn max_message_bytes(&self) -> usize {
        self.0.max_message_bytes
    }

    /// Resolves when servers get no time to exit by themselves.
    pub(crate) async fn wait_for_immediate_shutdown(&self) {
        self.0.immediate_shutdown.cancelled().await;
    }

    /// Records why the connection is about to end. The first reason is kept.
    pub(crate) fn set_close_reason(&self, reason: CloseReason) {
        let _ = self.0.close_reason.set(reason);
    }

    /// Records that nothing more will arrive from the server.
    pub(crate) fn mark_closed(&self) {
        self.0.closed.cancel();
    }

    /// Resolves when the connection has ended.
    pub(crate) async fn wait_until_closed(&self) {
        self.0.closed.cancelled().await;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.closed.is_cancelled()
    }

    /// Why the connection ended.
    pub(crate) fn close_reason(&self) -> CloseReason {
        self.recorded_close_reason().unwrap_or(CloseReason::ClosedByServer)
    }

    /// Why the connection ended, if more is known than that it did.
    pub(crate) fn recorded_close_reason(&self) -> Option<CloseReason> {
        self.0.close_reason.get().cloned()
    }

    /// Resolves when the server has announced changed tools since the last time that this resolved.
    pub(crate) async fn wait_for_changed_tools(&self) {
        self.0.tools_changed.notified().await;
    }

    pub(crate) fn notify_tools_changed(&self) {
        self.0.tools_changed.notify_one();
    }

    /// Records that the server is alive.
    pub(crate) fn record_activity(&self) {
        *self.0.last_activity.lock() = Instant::now();
    }

    /// How long the server has been silent. A server that waits for a user counts as active.
    pub(crate) fn silent_for(&self) -> Duration {
        if self.0.open_elicitations.load(Ordering::Relaxed) > 0 {
            return Duration::ZERO;
        }
        self.0.last_activity.lock().elapsed()
    }

    /// Locks sending. The guard is held from before a request is sent until it is [registered](Self::register_call).
    pub(crate) async fn lock_sending(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.send_lock.lock().await
    }

    /// Routes the progress and the elicitations of a request to its call until the returned guard is dropped.
    pub(crate) fn register_call(
        &self,
        request: RequestId,
        token: ProgressToken,
        call: &Arc<InFlightCall>,
    ) -> CallRegistration {
        let mut calls = self.0.calls.lock();
        let sequence = calls.next_sequence;
        calls.next_sequence += 1;
        calls.by_request.insert(request.clone(), RegisteredCall { sequence, call: call.clone() });
        calls.by_token.insert(token.clone(), call.clone());
        for early in std::mem::take(&mut calls.early_progress) {
            if early.progress_token == token {
                call.report_progress(early);
            } else {
                calls.early_progress.push_back(early);
            }
        }
        CallRegistration { handler: self.clone(), request, token }
    }

    /// Routes a progress notification to its call. It never waits.
    pub(crate) fn route_progress(&self, params: ProgressNotificationParam) {
        self.record_activity();
        let mut calls = self.0.calls.lock();
        // Reported under the lock, so that a call gets no progress after it has ended.
        if let Some(call) = calls.by_token.get(&params.progress_token) {
            call.report_progress(params);
            return;
        }
        if calls.early_progress.len() == MAX_EARLY_PROGRESS {
            calls.early_progress.pop_front();
        }
        calls.early_progress.push_back(params);
    }

    /// Returns the call that an elicitation belongs to.
    ///
    /// Over HTTP it usually arrives in the response stream of its call, which identifies it. Otherwise MCP does not say which
    /// call it belongs to. Then it is the oldest call with a user, because servers that handle one call at a time, as most
    /// stdio servers do, are working on that one.
    fn find_elicited_call(&self, origin: Option<&InboundStreamOrigin>) -> Option<Arc<InFlightCall>> {
        let calls = self.0.calls.lock();
        if let Some(InboundStreamOrigin::OutboundRequest(request)) = origin
            && let Some(registered) = calls.by_request.get(request)
        {
            return Some(registered.call.clone());
        }
        let with_user = calls.by_request.values().filter(|registered| registered.call.can_elicit());
        with_user.min_by_key(|registered| registered.sequence).map(|registered| registered.call.clone())
    }

    /// Counts an elicitation until the guard is dropped; `None` if the server has too many open ones.
    pub(crate) fn open_elicitation(&self) -> Option<OpenElicitation<'_>> {
        let guard = OpenElicitation(self);
        let open_before = self.0.open_elicitations.fetch_add(1, Ordering::Relaxed);
        (open_before < MAX_OPEN_ELICITATIONS).then_some(guard)
    }
}

impl ClientHandler for ConnectionHandler {
    fn get_info(&self) -> ClientConfig {
        let mut capabilities = ClientCapabilities::default();
        let form = FormElicitationCapability::new().with_schema_validation(true);
        let elicitation = ElicitationCapability::new().with_form(form).with_url(UrlElicitationCapability::new());
        capabilities.elicitation = Some(elicitation);
        // The newest version that has a handshake. Proposing a version without handshake in a handshake is an error, and the
        // lifecycle that starts with `server/discover` names its versions itself.
        ClientConfig::new(capabilities, Implementation::new("k8sops", env!("CARGO_PKG_VERSION")))
            .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        drop(self.lock_sending().await);
        let Some(call) = self.find_elicited_call(context.extensions.get()) else {
            tracing::warn!(server = self.server(), "mcp elicitation declined: it belongs to no call");
            return Ok(ElicitResult::new(ElicitationAction::Decline));
        };
        let Some(_open) = self.open_elicitation() else {
            let limit = MAX_OPEN_ELICITATIONS;
            tracing::warn!(server = self.server(), limit, "mcp elicitation declined: too many are open");
            return Ok(ElicitResult::new(ElicitationAction::Decline));
        };
        tokio::select! {
            biased;
            // The server has withdrawn the request, or the connection has ended.
            () = context.ct.cancelled() => Ok(ElicitResult::new(ElicitationAction::Cancel)),
            result = relay_elicitation(self.server(), &call, request) => Ok(result),
        }
    }

    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _: RequestContext<RoleClient>,
    ) -> Result<CustomResult, ErrorData> {
        // The SDK also passes on requests of known methods whose parameters it cannot parse.
        if request.method == "elicitation/create" {
            return Err(ErrorData::invalid_params("the requested form is not valid in MCP", None));
        }
        Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, request.method, None))
    }
}

/// Ends the routing of a request's progress and elicitations when dropped.
pub(crate) struct CallRegistration {
    handler: ConnectionHandler,
    request: RequestId,
    token: ProgressToken,
}

impl Drop for CallRegistration {
    fn drop(&mut self) {
        let mut calls = self.handler.0.calls.lock();
        calls.by_request.remove(&self.request);
        calls.by_token.remove(&self.token);
    }
}

/// An elicitation that waits for a user.
pub(crate) struct OpenElicitation<'a>(&'a ConnectionHandler);

impl Drop for OpenElicitation<'_> {
    fn drop(&mut self) {
        self.0.record_activity();
        self.0.0.open_elicitations.fetch_sub(1, Ordering::Relaxed);
    }
}
