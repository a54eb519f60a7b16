//! `/v1/sessions/{session_id}/ws`: events down, commands up.

mod connection;
mod frames;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;

use std::time::{Duration, Instant};

use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, get, http::header, web};
use actix_ws::{CloseCode, Message, MessageStream};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;
use utoipa::IntoParams;

use super::{
    ApiState, ProblemCode, ProblemDetails,
    body::says_body,
    extract::{Caller, Query, SessionPath, UserToken},
    identity::{SUBPROTOCOL, identify, is_upgrade, token_of},
    problem::document_errors,
    stream::{self, OpenStream},
};
use crate::auth::CallerIdentity;
use k8sops_core::{EventCursor, RequestContext, SessionId, StreamFrame};
use k8sops_telemetry::trace_context;

use connection::{Connection, Down};
pub(super) use frames::{COMMANDS, Frames};
use frames::{Introduction, refusal};

document_errors!(
    OpenErrors: InvalidRequest, CursorBeyondHead, SessionNotFound, SessionDamaged, UpgradeRequired, TooManyStreams,
    StoreUnavailable, Overloaded
);

/// How long a client that did not say who it is in the handshake may take to say it.
const INTRODUCTION: Duration = Duration::from_secs(5);
/// The largest first message: a token, and what is around it.
const MAX_INTRODUCTION: usize = 64 * 1024;

/// From where.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StartAt {
    /// Events after this seq; 0 for all that are kept.
    #[serde(default)]
    #[param(default = 0)]
    after: u64,
    /// Begin with a `snapshot` of the whole projection, and go on after it.
    #[serde(default)]
    #[param(default = false)]
    snapshot: bool,
}

/// A WebSocket: the session's events down, commands up.
///
/// Commands are `{"type": "message"|"cancel"|"approve"|"deny"|"answer"|"settings", "command_id"?, …}`; a text frame that is not a
/// JSON object is a message. Each is answered by `{"type": "ack", "command_id", "seq"}` once it is durable, or by
/// `{"type": "error", "command_id", "code", "message"}`.
///
/// A browser, which can send no `Authorization`, offers the sub-protocols `k8sops.v1` and `bearer.TOKEN`, or `k8sops.v1` alone
/// and says in its first message, within 5 s: `{"type": "auth", "token": "…"}`. Nothing is sent before.
#[utoipa::path(
    operation_id = "open_websocket", tag = "events",
    params(
        ("session_id" = SessionId, Path, description = "The session"),
        StartAt,
        ("sec-websocket-protocol" = Option<String>, Header, description = "`k8sops.v1`, and `bearer.TOKEN` where there is no `Authorization`"),
    ),
    responses((status = 101, description = "The WebSocket is open"), OpenErrors)
)]
#[get("/sessions/{session_id}/ws")]
pub(super) async fn open(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<ApiState>,
    session: SessionPath,
    Query(from): Query<StartAt>,
) -> Result<HttpResponse, ProblemDetails> {
    if !is_upgrade(&request) {
        let mut response = ProblemDetails::new(
            ProblemCode::UpgradeRequired,
            "connect with a WebSocket client, or use …/events for SSE and NDJSON",
        )
        .response();
        response.headers_mut().insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
        return Ok(response);
    }
    let SessionPath(session, _) = session;
    let known = request.extensions().get::<CallerIdentity>().cloned();
    let opened = match known {
        Some(identity) => Some(Opened::new(&api, identity, session, &from).await?),
        None => None,
    };
    if says_body(&request) {
        return Err(ProblemDetails::invalid("a handshake has no body: leave Content-Length and Transfer-Encoding out"));
    }
    let (response, socket, messages) = actix_ws::handle_with_protocols(&request, payload, &[SUBPROTOCOL])
        .map_err(|error| ProblemDetails::invalid(error.to_string()))?;
    let down = Down(socket);
    let cause = trace_context::current_request();
    match opened {
        Some(opened) => drop(actix_web::rt::spawn(opened.serve(api, session, cause, down, messages))),
        None => drop(actix_web::rt::spawn(introduce(request, api, session, from, cause, down, messages))),
    }
    Ok(response)
}

/// A session that somebody may watch, before the first frame.
struct Opened {
    caller: Caller,
    hello: StreamFrame,
    cursor: EventCursor,
    place: OpenStream,
}

impl Opened {
    async fn new(
        api: &ApiState,
        identity: CallerIdentity,
        session: SessionId,
        from: &StartAt,
    ) -> Result<Self, ProblemDetails> {
        let caller = Caller::new(identity)?;
        let place = OpenStream::new(api, &caller.identity)?;
        let (hello, cursor) = stream::open(api, &caller.user, session, from.after, from.snapshot).await?;
        UserToken(caller.identity.user_token.clone()).remember(api, &caller.user, session).await?;
        Ok(Self { caller, hello, cursor, place })
    }

    async fn serve(
        self,
        api: web::Data<ApiState>,
        session: SessionId,
        cause: RequestContext,
        down: Down,
        messages: MessageStream,
    ) {
        let limit = api.server.max_frame_bytes;
        let messages = messages.max_frame_size(limit).aggregate_continuations().max_continuation_size(limit);
        let Self { caller, hello, cursor, place } = self;
        let connection = Connection {
            _counted: api.metrics.track_stream(k8sops_telemetry::StreamKind::WebSocket),
            cause,
            api,
            caller: caller.identity,
            session,
            socket: down,
            heard: Instant::now(),
            open: place,
        };
        connection.serve(hello, cursor, messages).await;
    }
}

/// Hears who the client is, and serves it, or closes.
async fn introduce(
    request: HttpRequest,
    api: web::Data<ApiState>,
    session: SessionId,
    from: StartAt,
    cause: RequestContext,
    mut down: Down,
    messages: MessageStream,
) {
    let mut messages = messages.max_frame_size(MAX_INTRODUCTION);
    let first = tokio::select! {
        first = timeout(INTRODUCTION, messages.next()) => first,
        () = api.halt.cancelled() => return down.close(CloseCode::Away, "the service is stopping; connect again").await,
    };
    let said = match &first {
        Ok(Some(Ok(Message::Text(text)))) => serde_json::from_str::<Introduction>(text).ok(),
        _ => None,
    };
    let Some(Introduction::Auth { token, mcp_token }) = said else {
        return down.close(CloseCode::Policy, "the first message must be {\"type\": \"auth\", \"token\": …}").await;
    };
    let opened = async {
        let mut identity = identify(&api, &request, Some(&token)).await?;
        if let Some(own) = mcp_token {
            identity.user_token = token_of(&own);
        }
        api.quota.request(&identity.user)?;
        Opened::new(&api, identity, session, &from).await
    };
    match opened.await {
        Ok(opened) => opened.serve(api, session, cause, down, messages).await,
        Err(problem) => {
            let why = problem.code.word();
            let _ = down.text(refusal(Value::Null, problem).to_json()).await;
            down.close(CloseCode::Policy, &why).await;
        }
    }
}
