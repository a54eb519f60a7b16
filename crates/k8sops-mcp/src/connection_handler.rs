//! Our end of one connection: what a server may say to us without being asked.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

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

use crate::{CallProgress, elicitation_relay::elicit, in_flight_call::Flight};

/// Takes the progress of a call; must not block.
pub type ProgressCallback = Arc<dyn Fn(CallProgress) + Send + Sync>;

/// Progress kept for requests whose token is not known yet; of more than these the oldest is dropped.
const MAX_EARLY: usize = 32;
/// The largest message of a server, where nothing else is configured.
const MAX_MESSAGE: usize = 256 << 20;
/// Questions of one server that may be open at once, to all users together; more are declined.
const MAX_QUESTIONS: usize = 512;

/// Receives what a server sends on its own: progress, questions, changes of its tools, and the end of the connection.
///
/// It declares that questions to a user (elicitation) can be answered and nothing else: requests for sampling or roots are
/// not announced, and declined when they come all the same. One handler lives as long as one connection.
#[derive(Clone)]
pub struct ConnectionHandler(Arc<Inner>);

impl fmt::Debug for ConnectionHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handler").field(&self.0.server).finish()
    }
}

struct Inner {
    server: Arc<str>,
    max_message_bytes: usize,
    /// The calls in flight. A `std` lock: held for a look-up only, never across an await.
    calls: Mutex<Calls>,
    /// Held while a request is sent and entered in `calls`: the SDK tells its id only after sending, so a question that
    /// overtakes us has to wait here instead of finding no call.
    sending: tokio::sync::Mutex<()>,
    tools_changed: Notify,
    closed: CancellationToken,
    /// Cancelled when a server that does not leave by itself is to be ended at once.
    hurry: CancellationToken,
    close_reason: OnceLock<String>,
    /// When the server last said anything that matters. A `std` lock: held for a copy only.
    heard: Mutex<Instant>,
    /// Questions that wait for a user.
    questions: AtomicUsize,
}

#[derive(Default)]
struct Calls {
    next: u64,
    by_request: HashMap<RequestId, Entry>,
    by_token: HashMap<ProgressToken, Arc<Flight>>,
    /// Progress of requests that are being sent. It comes on the connection's own task, which must not wait for `sending`.
    early: VecDeque<ProgressNotificationParam>,
}

struct Entry {
    /// Counts up: the least is the oldest.
    number: u64,
    flight: Arc<Flight>,
}

impl ConnectionHandler {
    /// For one connection to the server of this name.
    pub fn new(server: Arc<str>) -> Self {
        Self::of_crew(server, CancellationToken::new(), MAX_MESSAGE)
    }

    /// For one connection whose end is hurried when `hurry` is cancelled, and whose messages have this size at most.
    pub(crate) fn of_crew(server: Arc<str>, hurry: CancellationToken, max_message_bytes: usize) -> Self {
        Self(Arc::new(Inner {
            server,
            max_message_bytes,
            calls: Mutex::default(),
            sending: tokio::sync::Mutex::default(),
            tools_changed: Notify::new(),
            closed: CancellationToken::new(),
            hurry,
            close_reason: OnceLock::new(),
            heard: Mutex::new(Instant::now()),
            questions: AtomicUsize::new(0),
        }))
    }

    /// For another connection to the same server.
    pub(crate) fn renewed(&self) -> Self {
        Self::of_crew(self.0.server.clone(), self.0.hurry.clone(), self.0.max_message_bytes)
    }

    /// The largest message that is taken from the server.
    pub(crate) fn max_message_bytes(&self) -> usize {
        self.0.max_message_bytes
    }

    /// Resolves when there is no time for a server to leave by itself.
    pub(crate) async fn hurried(&self) {
        self.0.hurry.cancelled().await;
    }

    /// The server's name in the configuration, for logs.
    pub fn server(&self) -> &str {
        &self.0.server
    }

    /// Says why the connection is about to end; the first reason stays.
    pub(crate) fn set_close_reason(&self, reason: String) {
        let _ = self.0.close_reason.set(reason);
    }

    /// Says that nothing more will come from the server.
    pub(crate) fn mark_closed(&self) {
        self.0.closed.cancel();
    }

    /// Resolves when the connection has ended.
    pub(crate) async fn closed(&self) {
        self.0.closed.cancelled().await;
    }

    /// Whether the connection has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.closed.is_cancelled()
    }

    /// Why the connection ended, in words.
    pub(crate) fn close_reason(&self) -> String {
        self.0.close_reason.get().cloned().unwrap_or_else(|| "the server closed the connection".to_owned())
    }

    /// Why the connection ended, when more is known than that it did.
    pub(crate) fn known_close_reason(&self) -> Option<String> {
        self.0.close_reason.get().cloned()
    }

    /// Resolves when the server has said that its tools changed, since the last time this resolved.
    pub(crate) async fn tools_changed(&self) {
        self.0.tools_changed.notified().await;
    }

    /// Says that the server's tools have changed.
    pub(crate) fn note_tools_changed(&self) {
        self.0.tools_changed.notify_one();
    }

    /// Notes that the server has answered.
    pub(crate) fn hear(&self) {
        *self.0.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// For how long the server has said nothing. While it waits for a user it has nothing to say.
    pub(crate) fn silence(&self) -> Duration {
        if self.0.questions.load(Ordering::Relaxed) > 0 {
            return Duration::ZERO;
        }
        self.0.heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// To be held from before a request is sent until it is [entered](Self::enter).
    pub(crate) async fn sending(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.sending.lock().await
    }

    /// Brings the progress and the questions of a request to its call, until the returned guard is dropped.
    pub(crate) fn enter(&self, request: RequestId, token: ProgressToken, flight: &Arc<Flight>) -> EntryGuard {
        let mut calls = self.calls();
        let number = calls.next;
        calls.next += 1;
        calls.by_request.insert(request.clone(), Entry { number, flight: flight.clone() });
        calls.by_token.insert(token.clone(), flight.clone());
        for early in std::mem::take(&mut calls.early) {
            if early.progress_token == token {
                flight.note_progress(early);
            } else {
                calls.early.push_back(early);
            }
        }
        EntryGuard { handler: self.clone(), request, token }
    }

    /// Takes the progress of a call; never waits.
    pub(crate) fn note_progress(&self, params: ProgressNotificationParam) {
        self.hear();
        let mut calls = self.calls();
        // Passed on under the lock: none comes after the call has left.
        if let Some(flight) = calls.by_token.get(&params.progress_token) {
            flight.note_progress(params);
            return;
        }
        if calls.early.len() == MAX_EARLY {
            calls.early.pop_front();
        }
        calls.early.push_back(params);
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        // A sink that panicked leaves the maps whole.
        self.0.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The call that a question belongs to.
    ///
    /// Over HTTP it often comes in the stream of the call's answer, and then there is no doubt. Otherwise MCP does not say
    /// whose it is: then it is that of the only call with somebody to ask, and of several the oldest, because a server
    /// that does one thing at a time, as most over stdio do, is at that one.
    fn asks_for(&self, origin: Option<&InboundStreamOrigin>) -> Option<Arc<Flight>> {
        let calls = self.calls();
        if let Some(InboundStreamOrigin::OutboundRequest(request)) = origin
            && let Some(entry) = calls.by_request.get(request)
        {
            return Some(entry.flight.clone());
        }
        let entries = calls.by_request.values().filter(|entry| entry.flight.has_asker());
        entries.min_by_key(|entry| entry.number).map(|entry| entry.flight.clone())
    }

    /// Counts a question that waits for a user, if there are not too many.
    pub(crate) fn open_question(&self) -> Option<QuestionGuard<'_>> {
        let guard = QuestionGuard(self);
        (self.0.questions.fetch_add(1, Ordering::Relaxed) < MAX_QUESTIONS).then_some(guard)
    }
}

impl ClientHandler for ConnectionHandler {
    fn get_info(&self) -> ClientConfig {
        let mut capabilities = ClientCapabilities::default();
        let form = FormElicitationCapability::new().with_schema_validation(true);
        let elicitation = ElicitationCapability::new().with_form(form).with_url(UrlElicitationCapability::new());
        capabilities.elicitation = Some(elicitation);
        // The newest version that has a handshake: proposing one that knows none in a handshake is an error, and the
        // lifecycle that asks with `server/discover` names its versions itself.
        ClientConfig::new(capabilities, Implementation::new("k8sops", env!("CARGO_PKG_VERSION")))
            .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        drop(self.sending().await);
        let Some(flight) = self.asks_for(context.extensions.get()) else {
            tracing::warn!(server = self.server(), "a question of an MCP server that belongs to no call was declined");
            return Ok(ElicitResult::new(ElicitationAction::Decline));
        };
        let Some(_question) = self.open_question() else {
            tracing::warn!(server = self.server(), "a question of an MCP server that asks too many was declined");
            return Ok(ElicitResult::new(ElicitationAction::Decline));
        };
        tokio::select! {
            biased;
            // The server has withdrawn it, or is gone.
            () = context.ct.cancelled() => Ok(ElicitResult::new(ElicitationAction::Cancel)),
            result = elicit(self.server(), &flight, request) => Ok(result),
        }
    }

    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _: RequestContext<RoleClient>,
    ) -> Result<CustomResult, ErrorData> {
        // The SDK hands on here what it knows the method of and cannot read.
        if request.method == "elicitation/create" {
            return Err(ErrorData::invalid_params("the requested form is not one that MCP knows", None));
        }
        Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, request.method, None))
    }
}

/// Ends the entry of a request when dropped.
pub(crate) struct EntryGuard {
    handler: ConnectionHandler,
    request: RequestId,
    token: ProgressToken,
}

impl Drop for EntryGuard {
    fn drop(&mut self) {
        let mut calls = self.handler.calls();
        calls.by_request.remove(&self.request);
        calls.by_token.remove(&self.token);
    }
}

/// A question that waits for a user.
pub(crate) struct QuestionGuard<'a>(&'a ConnectionHandler);

impl Drop for QuestionGuard<'_> {
    fn drop(&mut self) {
        self.0.hear();
        self.0.0.questions.fetch_sub(1, Ordering::Relaxed);
    }
}
