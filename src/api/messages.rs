//! `/v1/sessions/{session_id}/messages` and `/cancel`: messages to and from the agent.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, get, http::header, post, web};
use futures_util::{TryFutureExt as _, future::try_join};
use k8sops_core::{ChatMessage, CommandId, CommandReceipt, MessageId, RunId, SessionId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    caller::{Caller, CanWrite},
    client_cursor::StreamForm,
    commands::{SendMessage, cancel_command, message_command},
    error_responses::document_errors,
    event_stream::{EventStream, StreamEnd, StreamFormat, StreamGuard, hello_frame},
    extractors::{IdempotencyKey, MessageBody, QueryParameters, SessionPath},
    long_response::json_response,
    negotiation::{JSON, SSE, preferred_media_type},
    problem::ProblemDetails,
    problem_code::ProblemCode,
    state::ApiState,
};

document_errors!(
    SendMessageErrors: InvalidJson, InvalidRequest, SessionNotFound, SessionDamaged, Busy, MessageTooLong,
    PayloadTooLarge, CommandIdReused, InboxFull, TooManyRuns, TooManyStreams, StoreUnavailable, Stopping, Overloaded
);
document_errors!(ListMessagesErrors: InvalidRequest, SessionNotFound, SessionDamaged, StoreUnavailable);
document_errors!(
    CancelErrors: InvalidRequest, SessionNotFound, SessionDamaged, CommandIdReused, InboxFull, StoreUnavailable, Stopping
);

/// The acknowledgement of a message, which is durable and will be answered by a run.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MessageAccepted {
    /// The run that answers the message.
    run_id: RunId,
    /// The id of the message.
    message_id: MessageId,
    /// All events that the message causes have a higher seq.
    seq: u64,
    /// The id of the command: the `Idempotency-Key`, or a generated id.
    command_id: CommandId,
    /// Whether the same message was accepted before, so that this request has no effect.
    duplicate: bool,
}

impl MessageAccepted {
    fn from_receipt(receipt: CommandReceipt) -> Result<Self, ProblemDetails> {
        let CommandReceipt { run_id: Some(run_id), message_id: Some(message_id), seq, command_id, duplicate, .. } =
            receipt
        else {
            return Err(ProblemDetails::new(
                ProblemCode::Internal,
                "the store returned the receipt of another command for the message",
            ));
        };
        Ok(Self { run_id, message_id, seq, command_id, duplicate })
    }
}

/// How the stream of the response is written.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RunStreamQuery {
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

/// Sends a message to the agent.
///
/// The response is sent as soon as the message is durable. The events of its run are sent to the streams of the session. With
/// `Accept: text/event-stream` the response is the stream of this run and ends with it. If `Accept` also allows JSON, its
/// preference decides.
#[utoipa::path(
    operation_id = "send_message", tag = "messages",
    params(
        ("session_id" = SessionId, Path, description = "The session"),
        RunStreamQuery,
        ("idempotency-key" = Option<String>, Header, description = "Messages with the same key are accepted once"),
    ),
    request_body = SendMessage,
    responses(
        (status = 202, description = "The message is durable", body = MessageAccepted),
        (status = 200, description = "The stream of the run: its events and previews until its end", body = String, content_type = "text/event-stream"),
        SendMessageErrors
    )
)]
#[post("/sessions/{session_id}/messages")]
pub(super) async fn send_message(
    request: HttpRequest,
    state: web::Data<ApiState>,
    caller: Caller<CanWrite>,
    session: SessionPath,
    key: IdempotencyKey,
    QueryParameters(query): QueryParameters<RunStreamQuery>,
    body: MessageBody<SendMessage>,
) -> Result<HttpResponse, ProblemDetails> {
    let session_id = session.session_id;
    let command = message_command(&caller.user, key.into_command_id(), body.0, &state.server)?;
    let form = StreamForm::from_query(query.compact, query.hold.as_deref(), state.server.stream_hold)?;
    session.user_token.store_for_session(&state, &caller.user, session_id).await?;
    let wants_stream = preferred_media_type(&request, &[JSON, SSE]) == SSE;
    // Reserved before the message is accepted: a client that gets no stream must be able to send the message again.
    let guard = wants_stream.then(|| StreamGuard::new(&state, &caller.identity)).transpose()?;
    if wants_stream {
        // The run may start before the cursor is open.
        state.sessions.prefer_this_thread(session_id);
    }
    let receipt = state.sessions.submit_command(session_id, command).await?;
    let accepted = MessageAccepted::from_receipt(receipt)?;
    let Some(guard) = guard else { return Ok(HttpResponse::Accepted().json(accepted)) };
    // The run may end before its stream is open, so the cursor includes the text of complete messages.
    let cursor = state.sessions.open_cursor(&caller.user, session_id, accepted.seq).map_err(ProblemDetails::from);
    let (cursor, hello) = try_join(cursor, hello_frame(&state, &caller.user, session_id)).await?;
    let cursor = cursor.with_full_text();
    let end = StreamEnd::RunEnd(accepted.run_id, accepted.message_id);
    Ok(EventStream { guard, hello, cursor, form, format: StreamFormat::Sse, end }.into_response(&state))
}

/// Which part of the conversation is returned.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct MessageListQuery {
    /// The maximum number of messages, 1 to 1000.
    #[serde(default = "default_limit")]
    #[param(default = 100, minimum = 1, maximum = 1000)]
    limit: usize,
    /// Only messages whose event has a higher seq.
    #[serde(default)]
    after: u64,
}

fn default_limit() -> usize {
    100
}

/// A page of the conversation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MessageList {
    /// The messages, oldest first.
    #[schema(value_type = Vec<ChatMessage>)]
    messages: Vec<Arc<ChatMessage>>,
    /// The value of `after` for the next page. Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_after: Option<u64>,
}

/// Lists the messages of the conversation.
#[utoipa::path(
    operation_id = "list_messages", tag = "messages",
    params(("session_id" = SessionId, Path, description = "The session"), MessageListQuery),
    responses((status = 200, description = "A page of the conversation", body = MessageList), ListMessagesErrors)
)]
#[get("/sessions/{session_id}/messages")]
pub(super) async fn list_messages(
    state: web::Data<ApiState>,
    caller: Caller,
    session: SessionPath,
    QueryParameters(query): QueryParameters<MessageListQuery>,
) -> Result<HttpResponse, ProblemDetails> {
    if !(1..=1000).contains(&query.limit) {
        return Err(ProblemDetails::invalid("limit must be 1 to 1000"));
    }
    let mut messages =
        state.sessions.list_messages(&caller.user, session.session_id, query.after, query.limit + 1).await?;
    let has_more = messages.len() > query.limit;
    messages.truncate(query.limit);
    let next_after = messages.last().filter(|_| has_more).map(|m| m.seq());
    let bytes: u64 = messages.iter().map(|message| message.estimated_bytes()).sum();
    Ok(json_response(bytes, MessageList { messages, next_after }).await)
}

/// The acknowledgement of a cancel request, which is durable.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CancelAccepted {
    /// The run that is canceled: the run in progress, or the run of the next queued message. `null` if there is neither, so
    /// that the request has no effect.
    run_id: Option<RunId>,
    /// The end of the run has a higher seq.
    seq: u64,
}

/// Cancels the run in progress.
///
/// If no run is in progress, it cancels the run of the first queued message that was sent before this request. The runs of
/// other queued messages are not canceled.
#[utoipa::path(
    operation_id = "cancel", tag = "messages",
    params(
        ("session_id" = SessionId, Path, description = "The session"),
        ("idempotency-key" = Option<String>, Header, description = "Requests with the same key are executed once"),
    ),
    responses((status = 202, description = "The cancel request is durable", body = CancelAccepted), CancelErrors)
)]
#[post("/sessions/{session_id}/cancel")]
pub(super) async fn cancel_run(
    state: web::Data<ApiState>,
    caller: Caller<CanWrite>,
    session: SessionPath,
    key: IdempotencyKey,
) -> Result<HttpResponse, ProblemDetails> {
    let command = cancel_command(&caller.user, key.into_command_id());
    let receipt = state.sessions.submit_command(session.session_id, command).await?;
    Ok(HttpResponse::Accepted()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(CancelAccepted { run_id: receipt.run_id, seq: receipt.seq }))
}
