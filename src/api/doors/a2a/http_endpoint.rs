//! `/a2a/v1`: the HTTP+JSON binding.

use actix_web::{
    Error, FromRequest, HttpRequest, HttpResponse,
    dev::Payload,
    get,
    http::header::{CONTENT_TYPE, HeaderValue},
    post, web,
};
use futures_util::{FutureExt, future::LocalBoxFuture};
use serde_json::Value;

use super::{
    a2a_error::{A2aFailure, reject_body},
    agent_service::{AgentService, no_extended_card},
    client_message::SendMessageRequest,
    service_parameters::ServiceParameters,
    task_query::{TaskListRequest, TaskParameters},
    task_resource::{StreamItem, TaskPage, TaskResource},
    task_stream::BindingForm,
};
use crate::api::{
    caller::Caller,
    doors::door_body::ConversationBody,
    error_responses::document_errors,
    extractors::QueryParameters,
    negotiation::{JSON, preferred_media_type},
    problem::ProblemDetails,
    state::ApiState,
};

/// The media type of A2A, for clients that ask for it.
pub(super) const A2A_JSON: &str = "application/a2a+json";

document_errors!(
    SendAgentMessageErrors: InvalidJson, InvalidRequest, RoleRequired, ApproverRequired, SessionNotFound, SessionDamaged,
    PayloadTooLarge, InboxFull, TooManyRuns, TooManySessions, TooManyStreams, StoreUnavailable, Stopping, Overloaded
);
document_errors!(
    AgentTaskErrors: InvalidRequest, SessionNotFound, SessionDamaged, TooManyStreams, InboxFull, StoreUnavailable,
    Stopping
);

/// Sends a message to the agent, and returns its task when that has ended or waits for input.
///
/// A context is a session, and a task is a run. Without a `contextId` the message begins a context; without a `taskId` it begins a
/// task, which waits for those before it. A message with the `taskId` of a task in `TASK_STATE_INPUT_REQUIRED` answers it. The same
/// `messageId` in the same context is the same message. A disconnect does not cancel the task.
#[utoipa::path(
    operation_id = "send_agent_message", tag = "door: a2a",
    request_body = SendMessageRequest,
    responses(
        (status = 200, description = "The task, or a message if there is none", content(
            (StreamItem = "application/json"), (StreamItem = "application/a2a+json"),
        )),
        SendAgentMessageErrors
    )
)]
#[post("/a2a/v1/message:send")]
pub(in crate::api) async fn send_agent_message(
    exchange: HttpExchange,
    body: Result<ConversationBody<SendMessageRequest>, ProblemDetails>,
) -> Result<HttpResponse, ProblemDetails> {
    let body = body.map_err(|problem| reject_body(&exchange.request, problem));
    exchange.answer(async |service| service.send_message(body?.0).await.map(json_response)).await
}

/// Sends a message to the agent, and streams its task.
#[utoipa::path(
    operation_id = "stream_agent_message", tag = "door: a2a",
    request_body = SendMessageRequest,
    responses(
        (status = 200, description = "The task, and then its updates", body = String, content_type = "text/event-stream"),
        SendAgentMessageErrors
    )
)]
#[post("/a2a/v1/message:stream")]
pub(in crate::api) async fn stream_agent_message(
    exchange: HttpExchange,
    body: Result<ConversationBody<SendMessageRequest>, ProblemDetails>,
) -> Result<HttpResponse, ProblemDetails> {
    let body = body.map_err(|problem| reject_body(&exchange.request, problem));
    exchange.answer(async |service| service.stream_message(body?.0, BindingForm::HttpJson).await).await
}

/// Lists the caller's tasks, newest status first.
///
/// Without a `contextId`, the tasks are those of the 100 sessions with the newest activity.
#[utoipa::path(
    operation_id = "list_agent_tasks", tag = "door: a2a",
    params(TaskListRequest),
    responses(
        (status = 200, description = "A page of tasks", content(
            (TaskPage = "application/json"), (TaskPage = "application/a2a+json"),
        )),
        AgentTaskErrors
    )
)]
#[get("/a2a/v1/tasks")]
pub(in crate::api) async fn list_agent_tasks(
    exchange: HttpExchange,
    QueryParameters(query): QueryParameters<TaskListRequest>,
) -> Result<HttpResponse, ProblemDetails> {
    exchange.answer(async |service| service.list_tasks(&query).await.map(json_response)).await
}

/// Streams a task that has not ended: as it is, and then its updates.
#[utoipa::path(
    operation_id = "subscribe_to_agent_task", tag = "door: a2a",
    params(("task_id" = String, Path, description = "The id of the task")),
    responses(
        (status = 200, description = "The task, and then its updates", body = String, content_type = "text/event-stream"),
        AgentTaskErrors
    )
)]
#[get("/a2a/v1/tasks/{task_id}:subscribe")]
pub(in crate::api) async fn subscribe_to_agent_task(
    exchange: HttpExchange,
    task_id: web::Path<String>,
) -> Result<HttpResponse, ProblemDetails> {
    exchange.answer(async |service| service.subscribe(&task_id, BindingForm::HttpJson).await).await
}

/// The same as `GET /a2a/v1/tasks/{task_id}:subscribe`, as most clients ask.
#[utoipa::path(
    operation_id = "subscribe_to_agent_task_by_post", tag = "door: a2a",
    params(("task_id" = String, Path, description = "The id of the task")),
    responses(
        (status = 200, description = "The task, and then its updates", body = String, content_type = "text/event-stream"),
        AgentTaskErrors
    )
)]
#[post("/a2a/v1/tasks/{task_id}:subscribe")]
pub(in crate::api) async fn subscribe_to_agent_task_by_post(
    exchange: HttpExchange,
    task_id: web::Path<String>,
) -> Result<HttpResponse, ProblemDetails> {
    exchange.answer(async |service| service.subscribe(&task_id, BindingForm::HttpJson).await).await
}

/// Cancels a task, and returns it.
#[utoipa::path(
    operation_id = "cancel_agent_task", tag = "door: a2a",
    params(("task_id" = String, Path, description = "The id of the task")),
    responses(
        (status = 200, description = "The task; in progress if it takes longer to end", content(
            (TaskResource = "application/json"), (TaskResource = "application/a2a+json"),
        )),
        AgentTaskErrors
    )
)]
#[post("/a2a/v1/tasks/{task_id}:cancel")]
pub(in crate::api) async fn cancel_agent_task(
    exchange: HttpExchange,
    task_id: web::Path<String>,
) -> Result<HttpResponse, ProblemDetails> {
    exchange.answer(async |service| service.cancel_task(&task_id).await.map(json_response)).await
}

/// Returns a task.
#[utoipa::path(
    operation_id = "get_agent_task", tag = "door: a2a",
    params(("task_id" = String, Path, description = "The id of the task"), TaskParameters),
    responses(
        (status = 200, description = "The task", content(
            (TaskResource = "application/json"), (TaskResource = "application/a2a+json"),
        )),
        AgentTaskErrors
    )
)]
#[get("/a2a/v1/tasks/{task_id}")]
pub(in crate::api) async fn get_agent_task(
    exchange: HttpExchange,
    task_id: web::Path<String>,
    QueryParameters(query): QueryParameters<TaskParameters>,
) -> Result<HttpResponse, ProblemDetails> {
    exchange.answer(async |service| service.get_task(&task_id, query.history_length()?).await.map(json_response)).await
}

/// Answers that there is no other card than the public one. As it only ever does that, it is not in the OpenAPI document.
pub(super) async fn get_extended_agent_card(exchange: HttpExchange) -> Result<HttpResponse, ProblemDetails> {
    exchange.answer(async |_| Err(no_extended_card().into())).await
}

/// A request of a caller on its way to a response.
pub(in crate::api) struct HttpExchange {
    pub(super) request: HttpRequest,
    state: web::Data<ApiState>,
    caller: Caller,
}

impl FromRequest for HttpExchange {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        let state = web::Data::from_request(&request, payload);
        let caller = Caller::from_request(&request, payload);
        async move { Ok(Self { caller: caller.await?, state: state.await?, request }) }.boxed_local()
    }
}

impl HttpExchange {
    pub(super) async fn answer(
        self,
        method: impl AsyncFnOnce(&AgentService) -> Result<HttpResponse, A2aFailure>,
    ) -> Result<HttpResponse, ProblemDetails> {
        let media_type = preferred_media_type(&self.request, &[JSON, A2A_JSON]);
        let answered = match ServiceParameters::from_request(&self.request) {
            Ok(parameters) => {
                let service = AgentService { state: self.state, identity: self.caller.identity, parameters };
                method(&service).await.map(|response| parameters.add_to(response))
            }
            Err(error) => Err(error.into()),
        };
        match answered {
            Ok(mut response) => {
                let headers = response.headers_mut();
                if headers.get(CONTENT_TYPE).is_some_and(|kind| kind == JSON) {
                    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
                }
                Ok(response)
            }
            Err(A2aFailure::Protocol(error)) => Ok(error.http_response()),
            Err(A2aFailure::Problem(problem)) => Err(problem),
        }
    }
}

pub(super) fn json_response(body: Value) -> HttpResponse {
    HttpResponse::Ok().content_type(JSON).insert_header(("cache-control", "no-store")).json(body)
}
