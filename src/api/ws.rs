//! `/v1/sessions/{session_id}/ws`: events down, commands up.

use std::time::{Duration, Instant};

use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, get, http::header, web};
use actix_ws::{
    AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason, Closed, Message, MessageStream, ProtocolError,
    Session,
};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::time::{interval, sleep, timeout};
use tracing::Instrument as _;
use utoipa::{IntoParams, OpenApi, ToSchema};

use super::{
    Api, Code, Problem,
    approvals::{self, ResolveApproval, Verdict},
    body::says_body,
    extract::{Acts, Answers, Caller, InSession, OwnToken, Query},
    identity::{SUBPROTOCOL, identify, is_upgrade, token_of},
    inputs::{self, AnswerInput},
    messages::{self, SendMessage},
    problem::errors,
    settings,
    stream::{self, OpenStream, STORE_RETRY},
};
use crate::{
    auth::Identity,
    session::{
        ApprovalId, Cause, CommandId, Cursor, Frame, InputAction, InputId, MessageId, Receipt, RunId, SessionId,
        SettingsPatch, StoreError,
    },
    telemetry::{self, requests, traces},
};

errors!(
    OpenErrors: InvalidRequest, CursorBeyondHead, SessionNotFound, SessionDamaged, UpgradeRequired, TooManyStreams,
    StoreUnavailable, Overloaded
);

/// How often the server asks whether the client is there.
const PING: Duration = Duration::from_secs(20);
/// A client of which nothing was heard for this long is gone.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a client that did not say who it is in the handshake may take to say it.
const INTRODUCTION: Duration = Duration::from_secs(5);
/// The largest first message: a token, and what is around it.
const MAX_INTRODUCTION: usize = 64 * 1024;
/// A client that takes nothing for this long is gone; it goes on from its cursor when it comes back.
const STUCK: Duration = Duration::from_secs(60);

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
    api: web::Data<Api>,
    session: InSession,
    Query(from): Query<StartAt>,
) -> Result<HttpResponse, Problem> {
    if !is_upgrade(&request) {
        let mut response =
            Problem::new(Code::UpgradeRequired, "connect with a WebSocket client, or use …/events for SSE and NDJSON")
                .response();
        response.headers_mut().insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
        return Ok(response);
    }
    let InSession(session, _) = session;
    let known = request.extensions().get::<Identity>().cloned();
    let opened = match known {
        Some(identity) => Some(Opened::new(&api, identity, session, &from).await?),
        None => None,
    };
    if says_body(&request) {
        return Err(Problem::invalid("a handshake has no body: leave Content-Length and Transfer-Encoding out"));
    }
    let (response, socket, messages) = actix_ws::handle_with_protocols(&request, payload, &[SUBPROTOCOL])
        .map_err(|error| Problem::invalid(error.to_string()))?;
    let down = Down(socket);
    let cause = traces::cause();
    match opened {
        Some(opened) => drop(actix_web::rt::spawn(opened.serve(api, session, cause, down, messages))),
        None => drop(actix_web::rt::spawn(introduce(request, api, session, from, cause, down, messages))),
    }
    Ok(response)
}

/// A session that somebody may watch, before the first frame.
struct Opened {
    caller: Caller,
    hello: Frame,
    cursor: Cursor,
    place: OpenStream,
}

impl Opened {
    async fn new(api: &Api, identity: Identity, session: SessionId, from: &StartAt) -> Result<Self, Problem> {
        let caller = Caller::new(identity)?;
        let place = OpenStream::new(api, &caller.identity)?;
        let (hello, cursor) = stream::open(api, &caller.user, session, from.after, from.snapshot).await?;
        OwnToken(caller.identity.own_token.clone()).remember(api, &caller.user, session).await?;
        Ok(Self { caller, hello, cursor, place })
    }

    async fn serve(self, api: web::Data<Api>, session: SessionId, cause: Cause, down: Down, messages: MessageStream) {
        let limit = api.server.max_frame_bytes;
        let messages = messages.max_frame_size(limit).aggregate_continuations().max_continuation_size(limit);
        let Self { caller, hello, cursor, place } = self;
        let connection = Connection {
            _counted: api.metrics.stream(telemetry::Stream::WebSocket),
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

/// What a client says first that did not say in the handshake who it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case", tag = "type")]
enum Introduction {
    /// By what it has in place of a header.
    Auth {
        /// As after `Authorization: Bearer`.
        token: String,
        /// As `X-MCP-Authorization`.
        #[serde(default)]
        mcp_token: Option<String>,
    },
}

/// Hears who the client is, and serves it, or closes.
async fn introduce(
    request: HttpRequest,
    api: web::Data<Api>,
    session: SessionId,
    from: StartAt,
    cause: Cause,
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
            identity.own_token = token_of(&own);
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

struct Connection {
    api: web::Data<Api>,
    caller: Identity,
    session: SessionId,
    socket: Down,
    /// When the client was last heard of.
    heard: Instant,
    /// The request that opened it: all that comes over it belongs to that.
    cause: Cause,
    open: OpenStream,
    _counted: telemetry::OpenStream,
}

/// Why a connection ends.
enum End {
    /// The client is gone; nothing can be said to it.
    Gone,
    /// The client is told why.
    Close(CloseCode, &'static str),
}

/// The way down to a client. What it does not take in time is not sent, and the client is gone.
struct Down(Session);

impl Down {
    async fn text(&mut self, json: String) -> Result<(), End> {
        in_time(self.0.text(json)).await
    }

    async fn ping(&mut self) -> Result<(), End> {
        in_time(self.0.ping(b"")).await
    }

    async fn pong(&mut self, payload: &[u8]) -> Result<(), End> {
        in_time(self.0.pong(payload)).await
    }

    async fn close(self, code: CloseCode, why: &str) {
        let reason = CloseReason { code, description: Some(why.to_owned()) };
        // A client that is gone meanwhile needs no word.
        let _ = timeout(Duration::from_secs(2), self.0.close(Some(reason))).await;
    }
}

async fn in_time(sent: impl Future<Output = Result<(), Closed>>) -> Result<(), End> {
    match timeout(STUCK, sent).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Closed)) | Err(_) => Err(End::Gone),
    }
}

/// Whether a client sent more than a message may have, in one frame or in several.
fn is_too_large(error: &ProtocolError) -> bool {
    match error {
        ProtocolError::Overflow => true,
        // What actix-ws says of a message in several frames; it has no kind of its own for it.
        ProtocolError::Io(error) => error.to_string().contains("maximum continuation size"),
        _ => false,
    }
}

impl Connection {
    async fn serve(mut self, hello: Frame, mut cursor: Cursor, mut messages: AggregatedMessageStream) {
        let end = match self.socket.text(hello.to_json()).await {
            Err(end) => end,
            Ok(()) => self.exchange(&mut cursor, &mut messages).await,
        };
        if let End::Close(code, why) = end {
            self.socket.close(code, why).await;
        }
        drop(self.open);
    }

    /// Frames down, frames up, signs of life; until there is a reason to end.
    async fn exchange(&mut self, cursor: &mut Cursor, messages: &mut AggregatedMessageStream) -> End {
        let mut ping = interval(PING);
        // The first tick is due at once.
        ping.reset();
        loop {
            let done = tokio::select! {
                () = self.api.halt.cancelled() => {
                    Err(End::Close(CloseCode::Away, "the service is stopping; connect again"))
                }
                () = self.open.lapsed() => {
                    Err(End::Close(CloseCode::Policy, "the key or token does not hold any more; connect again with another"))
                }
                // Boxed, so that a connection that only listens, as most do, has no room for what a command needs.
                message = messages.next() => Box::pin(self.receive(message)).await,
                frame = cursor.next() => self.pass_on(frame).await,
                _ = ping.tick() => self.ping().await,
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    async fn pass_on(&mut self, frame: Result<Option<Frame>, StoreError>) -> Result<(), End> {
        match frame {
            Ok(Some(frame)) => self.socket.text(frame.to_json()).await,
            Ok(None) => Err(End::Close(CloseCode::Normal, "the session was deleted")),
            Err(error @ StoreError::Unavailable(_)) => {
                tracing::warn!(session = %self.session, %error, "a stream waits for the store");
                sleep(STORE_RETRY).await;
                Ok(())
            }
            Err(error) => {
                tracing::error!(session = %self.session, %error, "a stream ends because its log cannot be read");
                Err(End::Close(CloseCode::Error, "the session's log cannot be read"))
            }
        }
    }

    async fn ping(&mut self) -> Result<(), End> {
        if self.heard.elapsed() > SILENCE {
            return Err(End::Gone);
        }
        self.socket.ping().await
    }

    async fn receive(&mut self, message: Option<Result<AggregatedMessage, ProtocolError>>) -> Result<(), End> {
        self.heard = Instant::now();
        let answer = match message {
            None => return Err(End::Gone),
            Some(Ok(AggregatedMessage::Text(text))) => self.command(&text).await,
            Some(Ok(AggregatedMessage::Binary(_))) => self.refused(
                Value::Null,
                Problem::invalid("binary frames are not taken; send text: a JSON command, or a message as it is"),
            ),
            Some(Ok(AggregatedMessage::Ping(bytes))) => return self.socket.pong(&bytes).await,
            Some(Ok(AggregatedMessage::Pong(_))) => return Ok(()),
            Some(Ok(AggregatedMessage::Close(_))) => return Err(End::Close(CloseCode::Normal, "")),
            Some(Err(error)) if is_too_large(&error) => {
                return Err(End::Close(CloseCode::Size, "the frame is larger than K8SOPS_MAX_FRAME_BYTES allows"));
            }
            Some(Err(ProtocolError::Io(error))) if error.kind() != std::io::ErrorKind::InvalidData => {
                tracing::debug!(%error, "a WebSocket broke");
                return Err(End::Gone);
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "a WebSocket client broke the protocol");
                return Err(End::Close(CloseCode::Invalid, "the frame is not valid; text must be UTF-8"));
            }
        };
        self.socket.text(answer.to_json()).await
    }

    /// Takes a command in; gives the answer to it.
    async fn command(&self, text: &str) -> Reply {
        let (command_id, fields) = match envelope(text) {
            Ok(parts) => parts,
            Err(refused) => {
                let (id, problem) = *refused;
                return self.refused(id, problem);
            }
        };
        let id = command_id.to_string();
        let span = traces::command(&self.cause, self.session);
        let request = requests::id_of(self.cause.request_id.as_deref());
        match requests::within(request, self.submit(command_id, fields).instrument(span)).await {
            Ok(receipt) => acknowledgement(receipt),
            Err(problem) => refusal(Value::String(id), problem),
        }
    }

    /// What is no command counts as one.
    fn refused(&self, id: Value, problem: Problem) -> Reply {
        refusal(id, self.api.quota.request(&self.caller.user).err().unwrap_or(problem))
    }

    async fn submit(&self, command_id: CommandId, frame: Up) -> Result<Receipt, Problem> {
        let (api, user, session) = (&self.api, &self.caller.user, self.session);
        api.quota.request(user)?;
        match &frame {
            Up::Resolve(..) => drop(Caller::<Answers>::new(self.caller.clone())?),
            _ => drop(Caller::<Acts>::new(self.caller.clone())?),
        }
        let command = match frame {
            Up::Message(message) => messages::command(api, user, command_id, message)?,
            Up::Cancel => messages::cancel_command(user, command_id),
            Up::Resolve(approval_id, answer) => approvals::command(&self.caller, command_id, approval_id, answer)?,
            Up::Answer(input_id, answer) => inputs::command(user, command_id, input_id, answer)?,
            Up::Settings(patch) => settings::command(user, command_id, patch)?,
        };
        Ok(api.sessions.submit(session, command).await?)
    }
}

/// The answer to a command. The field `type` of the JSON names the variant.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Reply {
    /// The command is durable.
    Ack(Ack),
    /// The command was refused; the WebSocket stays open.
    Error(Refusal),
}

/// See [`Reply::Ack`].
#[derive(Debug, Serialize, ToSchema)]
struct Ack {
    /// The command: the id that it came with, or one that was made.
    command_id: CommandId,
    /// All that it causes has a higher seq.
    seq: u64,
    /// The message, for a `message`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    message_id: Option<MessageId>,
    /// The run that answers it, for a `message`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    run_id: Option<RunId>,
    /// This very command had been accepted before; nothing was taken in again. Absent: it had not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    duplicate: bool,
}

/// See [`Reply::Error`].
#[derive(Debug, Serialize, ToSchema)]
struct Refusal {
    /// What was given as `command_id`, whatever it is; `null`: nothing was.
    command_id: Value,
    /// The stable word.
    code: Code,
    /// What was attempted, what was found, what to do.
    message: String,
}

impl Reply {
    fn to_json(&self) -> String {
        serde_json::to_string(self).expect("an answer has string keys and no failing Serialize")
    }
}

fn acknowledgement(receipt: Receipt) -> Reply {
    let Receipt { command_id, seq, message_id, run_id, duplicate, .. } = receipt;
    Reply::Ack(Ack { command_id, seq, message_id, run_id, duplicate })
}

fn refusal(command_id: Value, problem: Problem) -> Reply {
    Reply::Error(Refusal { command_id, code: problem.code, message: problem.detail })
}

/// The schemas of what only a WebSocket carries; see [`super::asyncapi`].
#[derive(OpenApi)]
#[openapi(components(schemas(Introduction, Reply, SendMessage, Nothing, Answer, InputAnswer, SettingsPatch)))]
pub(super) struct Frames;

/// The commands: the word in `type`, the schema of the rest, and what it does.
pub(super) const COMMANDS: [(&str, &str, &str); 6] = [
    ("message", "SendMessage", "Sends a message."),
    ("cancel", "Nothing", "Cancels the run in progress."),
    ("approve", "Answer", "Lets a tool call run that waits for approval."),
    ("deny", "Answer", "Refuses a tool call that waits for approval."),
    ("answer", "InputAnswer", "Answers a question of an MCP server."),
    ("settings", "SettingsPatch", "Changes some settings; they apply from the next run on."),
];

/// What a client sends.
#[derive(Debug)]
enum Up {
    Message(SendMessage),
    Cancel,
    Resolve(ApprovalId, ResolveApproval),
    Answer(InputId, AnswerInput),
    Settings(SettingsPatch),
}

/// An answer to a request for approval.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Answer {
    /// From `approval_requested`.
    approval_id: ApprovalId,
    /// Run it with these arguments instead; with `approve` only.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    arguments: Option<serde_json::Map<String, Value>>,
    /// For the log; the model is told of a refusal's.
    #[serde(default)]
    comment: Option<String>,
}

/// An answer to a question of an MCP server.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct InputAnswer {
    /// From `input_requested`.
    input_id: InputId,
    /// `accept`, `decline` or `cancel`.
    action: InputAction,
    /// The values, which fit the question's `schema`; with `accept` only.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    content: Option<serde_json::Map<String, Value>>,
}

/// A command that needs no more than its `type`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Reads a text frame. The error names the command that it answers, where one was given.
fn envelope(text: &str) -> Result<(CommandId, Up), Box<(Value, Problem)>> {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(text) else {
        return Ok((CommandId::generate(), Up::Message(text.to_owned().into())));
    };
    let given = fields.remove("command_id").unwrap_or(Value::Null);
    let refuse = |problem: Problem| Box::new((given.clone(), problem));
    let command_id = match &given {
        Value::Null => CommandId::generate(),
        Value::String(id) => id.parse().map_err(|error| refuse(Problem::from(error)))?,
        _ => return Err(refuse(Problem::invalid("command_id must be a string"))),
    };
    let kind = fields.remove("type");
    let kind = kind.as_ref().and_then(Value::as_str).unwrap_or_default();
    let up = match kind {
        "message" => read(fields).map(Up::Message),
        "cancel" => read(fields).map(|Nothing {}| Up::Cancel),
        "approve" => read(fields).map(|answer| resolve(Verdict::Approve, answer)),
        "deny" => read(fields).map(|answer| resolve(Verdict::Deny, answer)),
        "answer" => read(fields)
            .map(|InputAnswer { input_id, action, content }| Up::Answer(input_id, AnswerInput { action, content })),
        "settings" => read(fields).map(Up::Settings),
        _ => Err(Problem::invalid(format!("type must be one of {}", COMMANDS.map(|(kind, ..)| kind).join(", ")))),
    };
    Ok((command_id, up.map_err(refuse)?))
}

fn resolve(decision: Verdict, answer: Answer) -> Up {
    let Answer { approval_id, arguments, comment } = answer;
    Up::Resolve(approval_id, ResolveApproval { decision, arguments, comment })
}

fn read<T: DeserializeOwned>(fields: serde_json::Map<String, Value>) -> Result<T, Problem> {
    serde_json::from_value(Value::Object(fields)).map_err(|error| Problem::new(Code::InvalidJson, error.to_string()))
}

#[cfg(test)]
mod tests {
    use actix_web::FromRequest as _;
    use serde_json::json;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up_whatever_it_is_sent() {
        let (request, mut payload) = actix_web::test::TestRequest::default()
            .insert_header((header::CONNECTION, "upgrade"))
            .insert_header((header::UPGRADE, "websocket"))
            .insert_header((header::SEC_WEBSOCKET_VERSION, "13"))
            .insert_header((header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="))
            .to_http_parts();
        let payload = web::Payload::from_request(&request, &mut payload).await.unwrap();
        // Nobody reads the response, as when the client's window is full.
        let (_response, socket, _messages) = actix_ws::handle(&request, payload).unwrap();
        let mut down = Down(socket);
        while timeout(Duration::from_secs(1), down.0.text("x")).await.is_ok() {}
        let limit = STUCK + Duration::from_secs(1);
        let gone = |end| matches!(end, Ok(Err(End::Gone)));
        assert!(gone(timeout(limit, down.text("x".into())).await), "text");
        assert!(gone(timeout(limit, down.ping()).await), "ping");
        assert!(gone(timeout(limit, down.pong(b"x")).await), "pong");
    }

    #[test]
    fn what_is_not_a_json_object_is_a_message() {
        for text in ["why is it down?", "42", "\"quoted\"", "[1]", "{ not json", ""] {
            assert!(matches!(envelope(text), Ok((_, Up::Message(_)))), "{text}");
        }
    }

    #[test]
    fn every_command_that_is_told_of_is_taken() {
        for (kind, ..) in COMMANDS {
            let read = envelope(&json!({"type": kind, "no such field": 1}).to_string());
            assert_eq!(read.unwrap_err().1.code, Code::InvalidJson, "{kind}");
        }
    }

    #[test]
    fn an_error_names_the_command_that_it_answers() {
        let (id, problem) = *envelope(r#"{"type":"message","command_id":"c1","contnet":"x"}"#).unwrap_err();
        assert_eq!((id, problem.code), (json!("c1"), Code::InvalidJson));
        assert!(problem.detail.contains("contnet"), "{}", problem.detail);
        let (id, problem) = *envelope(r#"{"type":"dance","command_id":"c2"}"#).unwrap_err();
        assert_eq!((id, problem.code), (json!("c2"), Code::InvalidRequest));
        let (id, _) = *envelope(r#"{"type":"cancel","command_id":7}"#).unwrap_err();
        assert_eq!(id, json!(7));
        assert!(envelope(r#"{"type":"cancel","command_id":"has space"}"#).is_err());
    }
}
