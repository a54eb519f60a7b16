//! `/a2a`: the JSON-RPC binding.

use actix_web::{HttpRequest, HttpResponse, post, web};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    a2a_error::{A2aError, A2aErrorKind, A2aFailure, reject_body},
    agent_service::{AgentService, no_extended_card},
    push_config_body::{PushConfigRequest, PushConfigSelector},
    service_parameters::ServiceParameters,
    task_query::{TaskListRequest, TaskRequest},
    task_stream::BindingForm,
};
use crate::api::{
    caller::Caller, doors::door_body::JsonBody, error_responses::document_errors, negotiation::JSON,
    problem::ProblemDetails, state::ApiState, typed_json::read_json_value,
};

document_errors!(
    AgentRpcErrors: RoleRequired, ApproverRequired, SessionDamaged, PayloadTooLarge, InboxFull, TooManyRuns,
    TooManySessions, TooManyStreams, StoreUnavailable, Stopping, Overloaded
);

/// A request of JSON-RPC.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = A2aRpcRequest)]
#[allow(dead_code, reason = "the schema; requests are read as values, to name what is wrong with them")]
pub(super) struct RpcRequestBody {
    /// `2.0`.
    jsonrpc: String,
    /// A text or a number, which the response repeats.
    #[schema(value_type = Value)]
    id: Value,
    /// `SendMessage`, `SendStreamingMessage`, `GetTask`, `ListTasks`, `CancelTask` or `SubscribeToTask`.
    method: String,
    /// The request of the method, as in the HTTP+JSON binding; the id of a task is `id`.
    #[schema(value_type = Object)]
    params: Value,
}

/// A response of JSON-RPC. One of `result` and `error` is present.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = A2aRpcResponse)]
pub(super) struct RpcResponseBody {
    /// `2.0`.
    jsonrpc: String,
    /// The id of the request.
    #[schema(value_type = Value)]
    id: Value,
    /// What the method returns.
    #[schema(value_type = Option<Value>)]
    result: Option<Value>,
    /// Why the method failed.
    error: Option<RpcErrorBody>,
}

/// Why a method failed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = A2aRpcError)]
struct RpcErrorBody {
    /// The code of JSON-RPC or A2A.
    code: i32,
    /// What was attempted, what was found, and what to do.
    message: String,
    /// A `google.rpc.ErrorInfo` with the `reason`, and for wrong fields a `google.rpc.BadRequest`.
    #[schema(value_type = Vec<Value>)]
    data: Value,
}

/// Answers a request of an A2A client over JSON-RPC.
///
/// The methods are those of A2A 1.0. A context is a session, and a task is a run; `SendStreamingMessage` and `SubscribeToTask` are
/// answered by streams. A task that waits for its user is `TASK_STATE_INPUT_REQUIRED`, and a message with its `taskId` answers.
#[utoipa::path(
    operation_id = "call_agent", tag = "door: a2a",
    params(
        ("a2a-version" = Option<String>, Header, description = "`1.0`"),
        ("a2a-extensions" = Option<String>, Header, description = "URIs of extensions, with commas between"),
    ),
    request_body = RpcRequestBody,
    responses(
        (status = 200, description = "The response, or a stream of responses", content(
            (RpcResponseBody = "application/json"), (String = "text/event-stream"),
        )),
        AgentRpcErrors
    )
)]
#[post("/a2a")]
pub(in crate::api) async fn call_agent(
    request: HttpRequest,
    state: web::Data<ApiState>,
    caller: Caller,
    body: Result<JsonBody, ProblemDetails>,
) -> Result<HttpResponse, ProblemDetails> {
    answer_request(request, state, caller, body).await
}

/// The same as `POST /a2a`, for clients that end addresses with a slash. The OpenAPI document describes the one without.
pub(super) async fn call_agent_with_slash(
    request: HttpRequest,
    state: web::Data<ApiState>,
    caller: Caller,
    body: Result<JsonBody, ProblemDetails>,
) -> Result<HttpResponse, ProblemDetails> {
    answer_request(request, state, caller, body).await
}

async fn answer_request(
    request: HttpRequest,
    state: web::Data<ApiState>,
    caller: Caller,
    body: Result<JsonBody, ProblemDetails>,
) -> Result<HttpResponse, ProblemDetails> {
    let body = match body.map_err(|problem| reject_body(&request, problem)) {
        Ok(body) => body.0,
        Err(A2aFailure::Protocol(error)) => return Ok(rpc_response(&error.to_rpc(&Value::Null))),
        Err(A2aFailure::Problem(problem)) => return Err(problem),
    };
    let call = match RpcCall::from_body(body) {
        Ok(call) => call,
        Err((id, error)) => return Ok(rpc_response(&error.to_rpc(&id))),
    };
    let answered = match ServiceParameters::from_request(&request) {
        Ok(parameters) => {
            let service = AgentService { state, identity: caller.identity, parameters };
            call.answer(&service).await.map(|response| parameters.add_to(response))
        }
        Err(error) => Err(error.into()),
    };
    match answered {
        Ok(response) => Ok(response),
        Err(A2aFailure::Protocol(error)) => Ok(rpc_response(&error.to_rpc(&call.id))),
        Err(A2aFailure::Problem(problem)) => Err(problem),
    }
}

/// A call of a method.
struct RpcCall {
    id: Value,
    method: String,
    params: Value,
}

impl RpcCall {
    /// Reads a request. An error has the id of the request, as far as it has one.
    fn from_body(body: Value) -> Result<Self, (Value, A2aError)> {
        let invalid = |id: Value, why: &str| Err((id, A2aError::new(A2aErrorKind::InvalidRequest, why)));
        let Value::Object(mut body) = body else { return invalid(Value::Null, "the request must be an object") };
        let mut take = |name: &str| body.remove(name).unwrap_or_default();
        let id = take("id");
        if !(id.is_string() || id.is_number()) {
            return invalid(Value::Null, "`id` must be a text or a number");
        }
        if take("jsonrpc") != "2.0" {
            return invalid(id, "`jsonrpc` must be \"2.0\"");
        }
        let Value::String(method) = take("method") else { return invalid(id, "`method` must be a text") };
        let params = match take("params") {
            Value::Null => json!({}),
            params @ Value::Object(_) => params,
            _ => return Err((id, A2aError::invalid_params("`params` must be an object"))),
        };
        Ok(Self { id, method, params })
    }

    async fn answer(&self, service: &AgentService) -> Result<HttpResponse, A2aFailure> {
        let form = BindingForm::JsonRpc(self.id.clone());
        let result = match self.method.as_str() {
            "SendMessage" => service.send_message(self.parse()?).await?,
            "SendStreamingMessage" => return service.stream_message(self.parse()?, form).await,
            "GetTask" => {
                let request: TaskRequest = self.parse()?;
                service.get_task(request.task_id()?, request.history_length()?).await?
            }
            "ListTasks" => service.list_tasks(&self.parse::<TaskListRequest>()?).await?,
            "CancelTask" => service.cancel_task(self.parse::<TaskRequest>()?.task_id()?).await?,
            "SubscribeToTask" => return service.subscribe(self.parse::<TaskRequest>()?.task_id()?, form).await,
            "GetExtendedAgentCard" => return Err(no_extended_card().into()),
            "CreateTaskPushNotificationConfig" => {
                service.ensure_push_notifications()?;
                let request: PushConfigRequest = self.parse()?;
                let task_id = request.task_id()?.to_owned();
                service.create_push_config(&task_id, request).await?
            }
            "GetTaskPushNotificationConfig" => {
                service.ensure_push_notifications()?;
                let selector: PushConfigSelector = self.parse()?;
                service.get_push_config(selector.task_id()?, selector.config_id()?).await?
            }
            "ListTaskPushNotificationConfigs" => {
                service.ensure_push_notifications()?;
                service.list_push_configs(self.parse::<PushConfigSelector>()?.task_id()?).await?
            }
            "DeleteTaskPushNotificationConfig" => {
                service.ensure_push_notifications()?;
                let selector: PushConfigSelector = self.parse()?;
                service.delete_push_config(selector.task_id()?, selector.config_id()?).await?
            }
            method => {
                let why = format!("A2A 1.0 has no method {method:?}");
                return Err(A2aError::new(A2aErrorKind::MethodNotFound, why).into());
            }
        };
        Ok(rpc_response(&form.express(result)))
    }

    fn parse<T: DeserializeOwned>(&self) -> Result<T, A2aError> {
        read_json_value(self.params.clone(), "`params`").map_err(|error| A2aError::wrong_type(&error))
    }
}

fn rpc_response(body: &Value) -> HttpResponse {
    HttpResponse::Ok().content_type(JSON).insert_header(("cache-control", "no-store")).body(body.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_checked() {
        let code = |body: Value| {
            RpcCall::from_body(body).err().map(|(id, error)| (error.to_rpc(&id)["error"]["code"].clone(), id))
        };
        assert_eq!(code(json!({"jsonrpc": "2.0", "id": 1, "method": "GetTask"})), None);
        assert_eq!(code(json!({"jsonrpc": "2.0", "id": "a", "method": "GetTask", "params": {}})), None);
        for (body, expected, id) in [
            (json!({"jsonrpc": "2.0", "method": "GetTask"}), -32600, json!(null)),
            (json!({"jsonrpc": "2.0", "id": {}, "method": "GetTask"}), -32600, json!(null)),
            (json!({"jsonrpc": "1.0", "id": 1, "method": "GetTask"}), -32600, json!(1)),
            (json!({"jsonrpc": "2.0", "id": 1}), -32600, json!(1)),
            (json!({"jsonrpc": "2.0", "id": 1, "method": 2}), -32600, json!(1)),
            (json!({"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": [1]}), -32602, json!(1)),
            (json!("text"), -32600, json!(null)),
        ] {
            assert_eq!(code(body.clone()), Some((json!(expected), id)), "{body}");
        }
    }
}
