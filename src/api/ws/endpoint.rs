//! The handshake of a WebSocket, and authentication by the first message.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix_http::ws::{CloseCode, Frame};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, get, web};
use futures_util::FutureExt as _;
use k8sops_core::{EventCursor, RequestContext, SessionId, StreamFrame};
use k8sops_telemetry::{StreamKind, trace_context};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;
use utoipa::IntoParams;

use super::{
    command_executor::CommandExecutor,
    connection::WsConnection,
    frames::{AuthFrame, CommandReply},
    receiver::WsReceiver,
    socket::WsSocket,
    upgrade::accept_handshake,
};
use crate::{
    api::{
        authentication::{identify_caller, parse_token},
        caller::Caller,
        client_cursor::{ClientCursor, StreamForm},
        error_responses::document_errors,
        event_stream::{StreamGuard, StreamStart, open_cursor},
        extractors::{QueryParameters, SessionPath, UserToken},
        problem::ProblemDetails,
        state::ApiState,
        ws_handshake::{is_handshake, require_websocket},
    },
    auth::CallerIdentity,
};

document_errors!(
    WebSocketErrors: InvalidRequest, CursorBeyondHead, SessionNotFound, SessionDamaged, UpgradeRequired, TooManyStreams,
    StoreUnavailable, Overloaded
);

/// How long a client whose handshake had no credentials may take to send them.
const AUTH_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest first message: a token and the JSON around it.
const MAX_AUTH_FRAME_BYTES: usize = 64 * 1024;

/// Where the events start.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WebSocketQuery {
    /// Start with the first event after this seq. 0 starts with the oldest event that is kept. After the seq of an event that
    /// the store has lost, the stream starts with `gap` and `snapshot`.
    #[serde(default)]
    #[param(default = 0)]
    after: u64,
    /// Start with a `snapshot` of the whole session and continue with the events after it.
    #[serde(default)]
    #[param(default = false)]
    snapshot: bool,
    /// Leave `message_id` and `run_id` out of `token` and `reasoning` events whose `offset` is not 0: they continue the message of
    /// the event before.
    #[serde(default)]
    #[param(default = false)]
    compact: bool,
    /// Hold tokens back for so long after each write, 0ms to 50ms, so that the next write has several. The default is that of the
    /// service (`K8SOPS_STREAM_HOLD`).
    #[serde(default)]
    #[param(example = "20ms")]
    hold: Option<String>,
}

/// Opens a WebSocket: the server sends events of the session, the client sends commands.
///
/// Commands are `{"type", "command_id"?, …}` of type `message`, `cancel`, `approve`, `deny`, `answer`, `settings` or `feedback`. A
/// text frame that is not a JSON object is a message. The reply to a command is `{"type": "ack", "command_id", "seq"}` when it is
/// durable, or `{"type": "error", "command_id", "code", "message"}`.
///
/// A browser cannot send `Authorization`. It offers the sub-protocols `k8sops.v1` and `bearer.TOKEN`, or it offers `k8sops.v1`
/// alone and sends `{"type": "auth", "token": "…"}` as its first message within 5 s. The server sends nothing before that.
#[utoipa::path(
    operation_id = "open_websocket", tag = "events",
    params(
        ("session_id" = SessionId, Path, description = "The session"),
        WebSocketQuery,
        ("sec-websocket-protocol" = Option<String>, Header, description = "`k8sops.v1`, and `bearer.TOKEN` if there is no `Authorization`"),
    ),
    responses(
        (status = 101, description = "The WebSocket is open"),
        (
            status = "default", description = "Any other error",
            body = ProblemDetails, content_type = "application/problem+json"
        ),
        WebSocketErrors
    )
)]
#[get("/sessions/{session_id}/ws")]
pub(in crate::api) async fn open_websocket(
    request: HttpRequest,
    state: web::Data<ApiState>,
    path: SessionPath,
    QueryParameters(query): QueryParameters<WebSocketQuery>,
) -> Result<HttpResponse, ProblemDetails> {
    if !is_handshake(&request) {
        return Ok(require_websocket("connect with a WebSocket client, or use …/events for SSE and NDJSON"));
    }
    let session = path.session_id;
    let form = StreamForm::from_query(query.compact, query.hold.as_deref(), state.server.stream_hold)?;
    let start = StreamStart { after: query.after, snapshot: query.snapshot, is_repeated: false };
    let identity = request.extensions().get::<CallerIdentity>().cloned();
    let authorized = match identity {
        Some(identity) => Some(AuthorizedStream::open(&state, identity, session, start).await?),
        None => None,
    };
    let opening = SocketOpening { state, session, form, context: trace_context::current_request() };
    if let Some(stream) = authorized {
        return accept_handshake(&request, |socket| opening.connect(socket, stream).boxed_local());
    }
    let handshake = request.clone();
    accept_handshake(&request, move |socket| opening.authenticate(socket, handshake, start).boxed_local())
}

/// A stream that a caller may read, before its first frame is sent.
struct AuthorizedStream {
    caller: Caller,
    hello: StreamFrame,
    cursor: EventCursor,
    guard: StreamGuard,
}

impl AuthorizedStream {
    async fn open(
        state: &ApiState,
        identity: CallerIdentity,
        session: SessionId,
        start: StreamStart,
    ) -> Result<Self, ProblemDetails> {
        let caller = Caller::new(identity)?;
        let guard = StreamGuard::new(state, &caller.identity)?;
        let (hello, cursor) = open_cursor(state, &caller.user, session, start).await?;
        UserToken(caller.identity.user_token.clone()).store_for_session(state, &caller.user, session).await?;
        Ok(Self { caller, hello, cursor, guard })
    }
}

/// What a WebSocket needs besides its connection and the stream.
struct SocketOpening {
    state: web::Data<ApiState>,
    session: SessionId,
    form: StreamForm,
    context: RequestContext,
}

impl SocketOpening {
    /// Exchanges frames with the client.
    fn connect(self, mut socket: WsSocket, stream: AuthorizedStream) -> impl Future<Output = ()> {
        let Self { state, session, form, context } = self;
        let AuthorizedStream { caller, hello, cursor, guard } = stream;
        let connection = WsConnection {
            cursor: ClientCursor::new(cursor, form),
            receiver: WsReceiver::new(&mut socket, state.server.max_frame_bytes),
            store_watch: state.sessions.watch_store(),
            _counted: state.metrics.track_stream(StreamKind::WebSocket),
            executor: Arc::new(CommandExecutor { state, caller: caller.identity, session, context }),
            socket,
            detail: form.detail,
            last_received: Instant::now(),
            guard,
        };
        Box::new(connection).run(hello.to_json())
    }

    /// Waits for the first message with the client's credentials, and then runs the connection or closes it.
    async fn authenticate(self, socket: WsSocket, request: HttpRequest, start: StreamStart) {
        // Boxed, so that its memory is free while the WebSocket is open.
        let authorized = Box::pin(self.authorize(socket, request, start)).await;
        if let Some((socket, stream)) = authorized {
            self.connect(socket, stream).await;
        }
    }

    /// Waits for the credentials, and opens the stream. Closes the connection if they do not suffice.
    async fn authorize(
        &self,
        mut socket: WsSocket,
        request: HttpRequest,
        start: StreamStart,
    ) -> Option<(WsSocket, AuthorizedStream)> {
        socket.limit_frame_bytes(MAX_AUTH_FRAME_BYTES);
        let first = tokio::select! {
            first = timeout(AUTH_TIMEOUT, socket.next_frame()) => first,
            () = self.state.shutdown.cancelled() => {
                socket.close(CloseCode::Away, "the service is shutting down; reconnect").await;
                return None;
            }
        };
        let frame = match &first {
            Ok(Some(Ok(Frame::Text(text)))) => serde_json::from_slice::<AuthFrame>(text).ok(),
            _ => None,
        };
        let Some(AuthFrame::Auth { token, mcp_token }) = frame else {
            socket.close(CloseCode::Policy, "the first message must be {\"type\": \"auth\", \"token\": …}").await;
            return None;
        };
        let authorized = async {
            let mut identity = identify_caller(&self.state, &request, Some(&token)).await?;
            if let Some(mcp_token) = mcp_token {
                identity.user_token = parse_token(&mcp_token);
            }
            self.state.quota.count_request(&identity.user)?;
            AuthorizedStream::open(&self.state, identity, self.session, start).await
        };
        match authorized.await {
            Ok(stream) => Some((socket, stream)),
            Err(problem) => {
                let code = problem.code.name();
                let _ = socket.send_text(CommandReply::rejected(Value::Null, problem).to_json()).await;
                socket.close(CloseCode::Policy, &code).await;
                None
            }
        }
    }
}
