//! `/v1/sessions/{session_id}/messages` and `/cancel`: talk to the agent.

use actix_web::{HttpRequest, HttpResponse, get, http::header, post, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use std::sync::Arc;

use super::{
    ApiState, ProblemCode, ProblemDetails,
    extract::{Body, Caller, CanWrite, IdempotencyKey, Query, SessionPath, fingerprint},
    problem::document_errors,
    stream::{self, Format, OpenStream, Until},
};
use k8sops_core::{
    ChatMessage, CommandBody, CommandId, CommandReceipt, MessageId, OnBusy, RunId, SessionCommand, SessionId, UserId,
};
use k8sops_telemetry::trace_context;

document_errors!(
    SendErrors: InvalidJson, InvalidRequest, SessionNotFound, SessionDamaged, Busy, MessageTooLong, PayloadTooLarge, CommandIdReused,
    InboxFull, TooManyRuns, TooManyStreams, StoreUnavailable, Stopping, Overloaded
);
document_errors!(ListErrors: InvalidRequest, SessionNotFound, SessionDamaged, StoreUnavailable);
document_errors!(CancelErrors: InvalidRequest, SessionNotFound, SessionDamaged, CommandIdReused, InboxFull, StoreUnavailable, Stopping);

/// A message for the agent.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SendMessage {
    /// The text; not empty, at most `K8SOPS_MAX_MESSAGE_BYTES` long.
    content: String,
    /// What to do when a run is in progress.
    #[serde(default)]
    on_busy: OnBusy,
}

/// The acknowledgement of a message: it is durable, and will have its run.
#[derive(Debug, Serialize, ToSchema)]
pub struct MessageAccepted {
    /// The run that answers it.
    run_id: RunId,
    /// The message.
    message_id: MessageId,
    /// Follow the events after this seq to see all that it causes.
    seq: u64,
    /// The name of the command: the `Idempotency-Key`, or one that was made.
    command_id: CommandId,
    /// Whether this very command had been accepted before; nothing was taken in again.
    duplicate: bool,
}

impl MessageAccepted {
    pub(super) fn of(receipt: CommandReceipt) -> Result<Self, ProblemDetails> {
        let (Some(run_id), Some(message_id)) = (receipt.run_id, receipt.message_id) else {
            return Err(ProblemDetails::new(
                ProblemCode::Internal,
                "the store answered a message with the receipt of another command",
            ));
        };
        Ok(Self { run_id, message_id, seq: receipt.seq, command_id: receipt.command_id, duplicate: receipt.duplicate })
    }
}

/// Sends a message.
///
/// Answers at once, when the message is durable; the run's events come by the session's streams. With
/// `Accept: text/event-stream` the answer is the stream of this run, and ends with it; where `Accept` has JSON as well, by
/// what it prefers.
#[utoipa::path(
    operation_id = "send_message", tag = "messages",
    params(
        ("session_id" = SessionId, Path, description = "The session"),
        ("idempotency-key" = Option<String>, Header, description = "The same key is the same message: it is taken once"),
    ),
    request_body = SendMessage,
    responses(
        (status = 202, description = "The message is durable", body = MessageAccepted),
        (status = 200, description = "The stream of the run: its events and previews, to its end", body = String, content_type = "text/event-stream"),
        SendErrors
    )
)]
#[post("/sessions/{session_id}/messages")]
pub(super) async fn send(
    request: HttpRequest,
    api: web::Data<ApiState>,
    caller: Caller<CanWrite>,
    session: SessionPath,
    key: IdempotencyKey,
    body: Body<SendMessage>,
) -> Result<HttpResponse, ProblemDetails> {
    let command_id = key.0.unwrap_or_else(CommandId::generate);
    let command = command(&api, &caller.user, command_id, body.0)?;
    session.1.remember(&api, &caller.user, session.0).await?;
    let streams = stream::preferred(&request, &["application/json", stream::SSE]) == stream::SSE;
    // Before the message is taken: who is told that there is no room must be able to send it again.
    let open = streams.then(|| OpenStream::new(&api, &caller.identity)).transpose()?;
    let receipt = api.sessions.submit_command(session.0, command).await?;
    let accepted = MessageAccepted::of(receipt)?;
    if let Some(open) = open {
        // The run may be over before its stream is open.
        let cursor = api.sessions.open_cursor(&caller.user, session.0, accepted.seq).await?.with_all_text();
        let hello = stream::hello(&api, &caller.user, session.0).await?;
        return Ok(stream::respond(
            &api,
            open,
            Some(hello),
            cursor,
            Format::Sse,
            Until::RunEnds(accepted.run_id, accepted.message_id),
        ));
    }
    Ok(HttpResponse::Accepted().json(accepted))
}

/// The command for a message, once it is known to be a valid one.
pub(super) fn command(
    api: &ApiState,
    user: &UserId,
    command_id: CommandId,
    message: SendMessage,
) -> Result<SessionCommand, ProblemDetails> {
    if message.content.trim().is_empty() {
        return Err(ProblemDetails::invalid("content must not be empty"));
    }
    let (length, limit) = (message.content.len(), api.server.max_message_bytes);
    if length > limit {
        let detail = format!("content has {length} bytes, the limit is {limit} (K8SOPS_MAX_MESSAGE_BYTES)");
        return Err(ProblemDetails::new(ProblemCode::MessageTooLong, detail));
    }
    Ok(SessionCommand {
        command_id,
        fingerprint: fingerprint(&("message", &message)),
        by: user.clone(),
        body: CommandBody::Message {
            message_id: MessageId::new(),
            run_id: RunId::new(),
            content: message.content,
            on_busy: message.on_busy,
            cause: trace_context::current_request(),
        },
    })
}

impl From<String> for SendMessage {
    fn from(content: String) -> Self {
        Self { content, on_busy: OnBusy::default() }
    }
}

/// Which part of the conversation.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// How many at the most, 1 to 1000.
    #[serde(default = "default_limit")]
    #[param(default = 100, minimum = 1, maximum = 1000)]
    limit: usize,
    /// Only messages whose event comes after this seq.
    #[serde(default)]
    after: u64,
}

fn default_limit() -> usize {
    100
}

/// A part of the conversation.
#[derive(Debug, Serialize, ToSchema)]
pub struct MessageList {
    /// Oldest first.
    #[schema(value_type = Vec<ChatMessage>)]
    messages: Vec<Arc<ChatMessage>>,
    /// `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_after: Option<u64>,
}

/// The conversation as messages.
#[utoipa::path(
    operation_id = "list_messages", tag = "messages",
    params(("session_id" = SessionId, Path, description = "The session"), Page),
    responses((status = 200, description = "A page of the conversation", body = MessageList), ListErrors)
)]
#[get("/sessions/{session_id}/messages")]
pub(super) async fn list(
    api: web::Data<ApiState>,
    caller: Caller,
    session: SessionPath,
    Query(page): Query<Page>,
) -> Result<web::Json<MessageList>, ProblemDetails> {
    if !(1..=1000).contains(&page.limit) {
        return Err(ProblemDetails::invalid("limit must be 1 to 1000"));
    }
    let state = api.sessions.load_session_state(&caller.user, session.0).await?;
    let mut messages: Vec<_> =
        state.messages.into_iter().filter(|m| m.seq() > page.after).take(page.limit + 1).collect();
    let more = messages.len() > page.limit;
    messages.truncate(page.limit);
    let next_after = messages.last().filter(|_| more).map(|m| m.seq());
    Ok(web::Json(MessageList { messages, next_after }))
}

/// The acknowledgement of a cancel: it is durable.
#[derive(Debug, Serialize, ToSchema)]
pub struct CancelAccepted {
    /// The run that is cancelled: the one in progress, else that of the message whose turn is next. `null`: there was
    /// neither, and nothing is cancelled.
    run_id: Option<RunId>,
    /// Follow the events after this seq to see the run's end.
    seq: u64,
}

/// Cancels the run in progress.
///
/// When no run has begun yet, it cancels that of the first message that was sent before it and waits. Other messages that
/// wait have their runs.
#[utoipa::path(
    operation_id = "cancel", tag = "messages",
    params(
        ("session_id" = SessionId, Path, description = "The session"),
        ("idempotency-key" = Option<String>, Header, description = "The same key is the same command"),
    ),
    responses((status = 202, description = "The cancel is durable", body = CancelAccepted), CancelErrors)
)]
#[post("/sessions/{session_id}/cancel")]
pub(super) async fn cancel(
    api: web::Data<ApiState>,
    caller: Caller<CanWrite>,
    session: SessionPath,
    key: IdempotencyKey,
) -> Result<HttpResponse, ProblemDetails> {
    let command = cancel_command(&caller.user, key.0.unwrap_or_else(CommandId::generate));
    let receipt = api.sessions.submit_command(session.0, command).await?;
    Ok(HttpResponse::Accepted()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(CancelAccepted { run_id: receipt.run_id, seq: receipt.seq }))
}

/// The command for a cancel.
pub(super) fn cancel_command(user: &UserId, command_id: CommandId) -> SessionCommand {
    SessionCommand {
        command_id,
        fingerprint: fingerprint(&"cancel"),
        by: user.clone(),
        body: CommandBody::Cancel { run_id: None },
    }
}
