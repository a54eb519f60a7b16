//! `/v1/responses`.

use actix_web::{HttpRequest, HttpResponse, get, post, web};
use k8sops_core::{ApprovalDecision, CommandId, EventBody, StreamFrame, run_long_work};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use utoipa::{IntoParams, ToSchema};

use super::{
    known_response::respond_with_text,
    response_creation::{ResponseCreation, open_response},
    response_encoder::ResponseEncoder,
    response_id::{ApprovalItemId, ResponseId, ResponseMode},
    response_request::{ResponseForm, ResponseInput, ResponseRequest},
    response_resource::ResponseResource,
};
use crate::{
    api::{
        caller::{Caller, CanWrite},
        commands::cancel_command,
        doors::{
            client_door::ClientDoor,
            client_headers::{ClientHeaders, SESSION_HEADER},
            door_body::ConversationBody,
            openai::{client_tasks::ClientTask, endpoint::check_model},
            run_cursor::{RunCursor, RunInterruption, RunRest, RunStep},
            turn_follower::{DisconnectQuery, OnDisconnect, TurnFollower, TurnStep},
            turn_stream::{TurnEncoder, turn_response},
        },
        error_responses::document_errors,
        event_stream::StreamGuard,
        extractors::{JSON_SPEED, QueryParameters},
        problem::ProblemDetails,
        problem_code::ProblemCode,
        state::ApiState,
    },
    auth::CallerIdentity,
};

document_errors!(
    CreateResponseErrors: InvalidJson, InvalidRequest, ModelNotFound, PreviousResponseNotFound, SessionNotFound,
    SessionDamaged, ApproverRequired, ApprovalNotFound, ApprovalClosed, InputNotFound, InputClosed, DoesNotFit,
    MessageTooLong, PayloadTooLarge, Busy, CommandIdReused, InboxFull, TooManyRuns, TooManySessions, TooManyStreams,
    StoreUnavailable, Stopping, Overloaded
);
document_errors!(
    GetResponseErrors: InvalidRequest, ResponseNotFound, SessionDamaged, TooManyStreams, StoreUnavailable
);
document_errors!(
    CancelResponseErrors: ResponseNotFound, SessionDamaged, InboxFull, StoreUnavailable, Stopping
);

/// How long a cancel waits for the run to end.
const CANCEL_PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// Creates a response: sends a message to a session, or answers what its run waits for.
///
/// `previous_response_id` or `conversation` names the session; without them it is found by the messages of the input, or begins. A
/// response ends with the run, or where the run waits for its user: then its last items are `mcp_approval_request`, and a request
/// with an `mcp_approval_response` continues the run in the next response. A message meanwhile is not sent, and gets the same
/// request again. With `background` the response is returned at once. A disconnect does not cancel the run.
#[utoipa::path(
    operation_id = "create_response", tag = "door: responses",
    params(
        DisconnectQuery,
        ("x-k8sops-thread" = Option<String>, Header, description = "The client's thread, if no conversation is named"),
        ("x-k8sops-task" = Option<String>, Header, description = "The name of a task besides the conversation"),
        ("idempotency-key" = Option<String>, Header, description = "Messages with the same key are accepted once"),
    ),
    request_body = ResponseRequest,
    responses(
        (status = 200, description = "The response, or with `stream` its events", content(
            (ResponseResource = "application/json"), (String = "text/event-stream"),
        )),
        CreateResponseErrors
    )
)]
#[post("/v1/responses")]
pub(in crate::api) async fn create_response(
    request: HttpRequest,
    state: web::Data<ApiState>,
    caller: Caller<CanWrite>,
    QueryParameters(query): QueryParameters<DisconnectQuery>,
    body: ConversationBody<ResponseRequest>,
) -> Result<HttpResponse, ProblemDetails> {
    let ConversationBody(wanted, bytes) = body;
    check_model(wanted.model.as_deref())?;
    wanted.check_supported()?;
    let reading = move || {
        let mut wanted = wanted;
        let input = wanted.read_input();
        // Freed here: that takes milliseconds for megabytes.
        wanted.input = Value::Null;
        (wanted, input)
    };
    let (wanted, input) = run_long_work(bytes / JSON_SPEED, reading).await;
    let input = input.map_err(ProblemDetails::with_current_request)?;
    let headers = ClientHeaders::from_request(&request)?;
    if let ResponseInput::Message(history) = &input
        && let Some(task) = ClientTask::recognize(headers.task.as_deref(), history)
    {
        return Ok(respond_with_text(task.answer(history), wanted.form()));
    }
    // Reserved before anything is accepted: a client that gets no response must be able to send the request again.
    let guard = StreamGuard::new(&state, &caller.identity)?;
    let creation = ResponseCreation { state: &state, caller: &caller, headers, request: &wanted };
    let id = creation.start(input).await?;
    let cursor = open_response(&state, &caller.identity, &id).await?;
    let reading = ResponseReading { state, identity: caller.identity.clone(), id };
    match (wanted.form(), id.mode) {
        (ResponseForm::Events, _) => Ok(reading.stream(cursor, guard, query.on_disconnect(), None)),
        (ResponseForm::Whole, ResponseMode::Background) => Ok(reading.respond(reading.read_logged(cursor).await?)),
        (ResponseForm::Whole, ResponseMode::Foreground) => Ok(reading.wait(cursor, guard, query.on_disconnect()).await),
    }
}

/// How a response is read.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ReadResponseQuery {
    /// Whether the response is a stream of events: all of them from the beginning, and then as they come.
    #[serde(default)]
    stream: bool,
    /// Events up to this sequence number are left out, and text up to it.
    #[serde(default)]
    #[param(required = false)]
    starting_after: Option<u64>,
}

/// Returns a response, or its events.
///
/// Events are made of the log: any replica returns the same ones with the same numbers, at any time.
#[utoipa::path(
    operation_id = "get_response", tag = "door: responses",
    params(("response_id" = String, Path, description = "The id of the response"), ReadResponseQuery),
    responses(
        (status = 200, description = "The response as far as it is, or with `stream` its events", content(
            (ResponseResource = "application/json"), (String = "text/event-stream"),
        )),
        GetResponseErrors
    )
)]
#[get("/v1/responses/{response_id}")]
pub(in crate::api) async fn get_response(
    state: web::Data<ApiState>,
    caller: Caller,
    response_id: web::Path<String>,
    QueryParameters(query): QueryParameters<ReadResponseQuery>,
) -> Result<HttpResponse, ProblemDetails> {
    let id = parse_id(&response_id)?;
    let cursor = open_response(&state, &caller.identity, &id).await?;
    let reading = ResponseReading { state, identity: caller.identity, id };
    if query.stream {
        let guard = StreamGuard::new(&reading.state, &reading.identity)?;
        return Ok(reading.stream(cursor, guard, OnDisconnect::Continue, query.starting_after));
    }
    Ok(reading.respond(reading.read_logged(cursor).await?))
}

/// Cancels the run of a response, if it is in progress, and returns the response.
#[utoipa::path(
    operation_id = "cancel_response", tag = "door: responses",
    params(("response_id" = String, Path, description = "The id of the response")),
    responses(
        (status = 200, description = "The response; `in_progress` if the run takes longer to end", body = ResponseResource),
        CancelResponseErrors
    )
)]
#[post("/v1/responses/{response_id}/cancel")]
pub(in crate::api) async fn cancel_response(
    state: web::Data<ApiState>,
    caller: Caller<CanWrite>,
    response_id: web::Path<String>,
) -> Result<HttpResponse, ProblemDetails> {
    let id = parse_id(&response_id)?;
    let session = id.address.session;
    let reading = ResponseReading { state, identity: caller.identity.clone(), id };
    let sessions = &reading.state.sessions;
    let before = reading.read_logged(open_response(&reading.state, &caller.identity, &id).await?).await?;
    let open_run = sessions.get_session(&caller.user, session).await?.open_run;
    // A run that waits for its user is in progress, although its response is complete.
    if !(open_run == Some(id.address.run) || (open_run.is_none() && before.is_queued())) {
        return Ok(reading.respond(before));
    }
    sessions.submit_command(session, cancel_command(&caller.user, CommandId::generate())).await?;
    let mut cursor = open_response(&reading.state, &caller.identity, &id).await?;
    let deadline = Instant::now() + CANCEL_PATIENCE;
    let mut encoder = reading.encoder(None);
    let mut ignored = String::new();
    encoder.encode_start(&mut ignored);
    while let Ok(step) = timeout_at(deadline, cursor.next()).await {
        ignored.clear();
        match step? {
            RunStep::Frame(frame) => encoder.encode_frame(&frame, &mut ignored),
            RunStep::Blocked(_) => {}
            RunStep::Rest(rest) => {
                encoder.encode_rest(&rest, &mut ignored);
                break;
            }
        }
    }
    Ok(reading.respond(encoder.into_resource()))
}

/// What a response answers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InputItemList {
    /// `list`.
    object: &'static str,
    /// The message, or the answers to requests for approval.
    #[schema(value_type = Vec<Value>)]
    data: Vec<Value>,
    first_id: Option<String>,
    last_id: Option<String>,
    /// `false`.
    has_more: bool,
}

/// Returns what a response answers: the message of the user, or the answers to requests for approval.
#[utoipa::path(
    operation_id = "list_input_items", tag = "door: responses",
    params(("response_id" = String, Path, description = "The id of the response")),
    responses((status = 200, description = "The items", body = InputItemList), GetResponseErrors)
)]
#[get("/v1/responses/{response_id}/input_items")]
pub(in crate::api) async fn list_input_items(
    state: web::Data<ApiState>,
    caller: Caller,
    response_id: web::Path<String>,
) -> Result<web::Json<InputItemList>, ProblemDetails> {
    let id = parse_id(&response_id)?;
    let mut cursor = open_response(&state, &caller.identity, &id).await?;
    let mut data = Vec::new();
    let mut asked = Vec::new();
    while let Some(RunStep::Frame(frame)) = cursor.next_logged().await? {
        let StreamFrame::Event(event) = frame else { continue };
        match (&event.body, id.rest_point) {
            (EventBody::UserMessage(message), None) => {
                let id = format!("msg_{}", data_encoding::HEXLOWER.encode(message.message_id.as_bytes()));
                let content = json!([{"type": "input_text", "text": message.content}]);
                data.push(json!({"id": id, "type": "message", "role": "user", "status": "completed",
                    "content": content}));
            }
            (EventBody::ApprovalRequested(request), Some(point)) if event.seq <= point.seq => {
                asked.push(request.approval_id);
            }
            (EventBody::ApprovalResolved(resolved), Some(point)) if event.seq <= point.seq => {
                asked.retain(|approval| *approval != resolved.approval_id);
            }
            (EventBody::ApprovalResolved(resolved), Some(point)) => {
                let Some(position) = asked.iter().position(|approval| *approval == resolved.approval_id) else {
                    continue;
                };
                if position >= u64::BITS as usize || point.answered >> position & 1 == 0 {
                    continue;
                }
                let request = ApprovalItemId { address: id.address, rest_seq: point.seq, position };
                let approval = data_encoding::HEXLOWER.encode(resolved.approval_id.as_bytes());
                data.push(json!({"id": format!("mcpa_{approval}"), "type": "mcp_approval_response",
                    "approval_request_id": request.to_string(),
                    "approve": resolved.decision == ApprovalDecision::Approve, "reason": resolved.comment}));
            }
            _ => {}
        }
    }
    let id_of = |item: Option<&Value>| item.and_then(|item| item["id"].as_str()).map(str::to_owned);
    let (first_id, last_id) = (id_of(data.first()), id_of(data.last()));
    Ok(web::Json(InputItemList { object: "list", data, first_id, last_id, has_more: false }))
}

fn parse_id(text: &str) -> Result<ResponseId, ProblemDetails> {
    text.parse().map_err(|_| response_not_found(text))
}

fn response_not_found(id: &str) -> ProblemDetails {
    ProblemDetails::new(ProblemCode::ResponseNotFound, format!("Response with id '{id}' not found."))
}

/// Reads a response for a client.
struct ResponseReading {
    state: web::Data<ApiState>,
    identity: CallerIdentity,
    id: ResponseId,
}

impl ResponseReading {
    fn encoder(&self, starting_after: Option<u64>) -> ResponseEncoder {
        ResponseEncoder::new(self.id, starting_after)
    }

    fn follower(&self, cursor: Box<RunCursor>, guard: StreamGuard, on_disconnect: OnDisconnect) -> TurnFollower {
        let target = (ClientDoor::Responses, self.id.address.session, on_disconnect);
        TurnFollower::new(&self.state, &self.identity, target, cursor, guard)
    }

    fn stream(
        &self,
        cursor: Box<RunCursor>,
        guard: StreamGuard,
        on_disconnect: OnDisconnect,
        starting_after: Option<u64>,
    ) -> HttpResponse {
        let follower = self.follower(cursor, guard, on_disconnect);
        self.with_session(turn_response(follower, self.encoder(starting_after)))
    }

    /// Waits until the run rests. A run that is interrupted on this replica is still in progress.
    async fn wait(&self, cursor: Box<RunCursor>, guard: StreamGuard, on_disconnect: OnDisconnect) -> HttpResponse {
        let mut follower = self.follower(cursor, guard, on_disconnect);
        let mut encoder = self.encoder(None);
        let mut ignored = String::new();
        encoder.encode_start(&mut ignored);
        loop {
            ignored.clear();
            match follower.next().await {
                TurnStep::Frame(frame) => encoder.encode_frame(&frame, &mut ignored),
                TurnStep::KeepAlive | TurnStep::Blocked(_) => {}
                TurnStep::Rest(rest) => {
                    encoder.encode_rest(&rest, &mut ignored);
                    return self.respond(encoder.into_resource());
                }
            }
        }
    }

    /// Reads what the log has of the response.
    async fn read_logged(&self, mut cursor: Box<RunCursor>) -> Result<ResponseResource, ProblemDetails> {
        let mut encoder = self.encoder(None);
        let mut ignored = String::new();
        while let Some(step) = cursor.next_logged().await? {
            ignored.clear();
            match step {
                RunStep::Frame(frame) => encoder.encode_frame(&frame, &mut ignored),
                RunStep::Blocked(_) => {}
                RunStep::Rest(RunRest::Interrupted(
                    RunInterruption::SessionDeleted | RunInterruption::EventsNotKept,
                )) => return Err(response_not_found(&self.id.to_string())),
                RunStep::Rest(rest) => {
                    encoder.encode_rest(&rest, &mut ignored);
                    break;
                }
            }
        }
        Ok(encoder.into_resource())
    }

    fn respond(&self, resource: ResponseResource) -> HttpResponse {
        self.with_session(HttpResponse::Ok().json(resource))
    }

    fn with_session(&self, mut response: HttpResponse) -> HttpResponse {
        if let Ok(value) = self.id.address.session.to_string().parse() {
            response.headers_mut().insert(actix_web::http::header::HeaderName::from_static(SESSION_HEADER), value);
        }
        response
    }
}
