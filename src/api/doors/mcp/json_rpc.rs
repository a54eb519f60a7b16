//! Messages of JSON-RPC 2.0, as MCP uses it.

use actix_web::{HttpResponse, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::api::{problem::ProblemDetails, problem_code::ProblemCode, typed_json::read_json_value};

/// The only version of JSON-RPC.
const JSON_RPC: &str = "2.0";

/// A message of a client: a request, a notification, or the response to an elicitation.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct JsonRpcMessage {
    /// `2.0`.
    #[serde(default)]
    jsonrpc: String,
    /// A text or a number. Absent in notifications.
    #[serde(default)]
    #[schema(value_type = Value)]
    id: Option<Value>,
    /// The method of a request or notification.
    #[serde(default)]
    method: Option<String>,
    /// The parameters of the method.
    #[serde(default)]
    #[schema(value_type = Value)]
    params: Option<Value>,
    /// The result, in a response.
    #[serde(default)]
    #[schema(value_type = Value)]
    result: Option<Value>,
    /// The error, in a response.
    #[serde(default)]
    #[schema(value_type = Value)]
    error: Option<Value>,
}

/// The response to a request. One of `result` and `error` is present.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JsonRpcResponse {
    /// `2.0`.
    jsonrpc: &'static str,
    /// The id of the request. Absent in an error that belongs to no request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Value)]
    id: Option<Value>,
    /// What the method returns.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Value)]
    result: Option<Value>,
    /// Why the request failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<JsonRpcFailure>,
}

/// Why a request failed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JsonRpcFailure {
    /// The code of JSON-RPC or MCP.
    code: i32,
    /// What was attempted, what was found, and what to do.
    message: String,
    /// More about the error: in `code` the stable code of the native API, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Value)]
    data: Option<Value>,
}

/// A request of a client.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RpcRequest {
    pub(super) id: Value,
    pub(super) method: String,
    pub(super) params: Value,
}

/// What a client sends.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ClientMessage {
    Request(RpcRequest),
    Notification { method: String, params: Value },
    Response { id: Value, result: Result<Value, Value> },
}

impl JsonRpcMessage {
    /// Reads a message from JSON.
    pub(super) fn from_json(body: Value) -> Result<Self, RpcError> {
        let Value::Object(fields) = &body else {
            return Err(RpcError::invalid_request(match &body {
                Value::Array(_) => "batches are not supported: send each message as a request of its own",
                _ => "the body must be a JSON object",
            }));
        };
        // A notification has no id; `null` would be a request that cannot be answered.
        if fields.contains_key("method") && fields.get("id").is_some_and(Value::is_null) {
            return Err(RpcError::invalid_request("`id` must not be null"));
        }
        read_json_value(body, "the body")
            .map_err(|error| RpcError::invalid_request(format!("this is no message of JSON-RPC: {error}")))
    }

    /// Finds out what the message is.
    pub(super) fn classify(self) -> Result<ClientMessage, RpcError> {
        let invalid = |why: &str| Err(RpcError::invalid_request(why));
        if self.jsonrpc != JSON_RPC {
            return invalid("`jsonrpc` must be \"2.0\"");
        }
        // Other numbers come back in another form, by which the client does not know its request.
        if self.id.as_ref().is_some_and(|id| !id.is_string() && !id.is_i64() && !id.is_u64()) {
            return invalid("`id` must be a text or an integer of at most 64 bits");
        }
        let params = self.params.unwrap_or(Value::Null);
        match (self.method, self.id) {
            (Some(method), Some(id)) => Ok(ClientMessage::Request(RpcRequest { id, method, params })),
            (Some(method), None) => Ok(ClientMessage::Notification { method, params }),
            (None, Some(id)) => match (self.result, self.error) {
                (Some(result), None) => Ok(ClientMessage::Response { id, result: Ok(result) }),
                (None, Some(error)) => Ok(ClientMessage::Response { id, result: Err(error) }),
                _ => invalid("a message without `method` must have either `result` or `error`"),
            },
            (None, None) => invalid("the message has neither `method` nor `id`"),
        }
    }
}

/// An error of the protocol.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::api::doors) struct RpcError {
    code: i32,
    message: String,
    data: Option<Value>,
    status: StatusCode,
}

impl RpcError {
    fn new(code: i32, status: StatusCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None, status }
    }

    pub(super) fn invalid_request(message: impl Into<String>) -> Self {
        Self::new(-32600, StatusCode::BAD_REQUEST, message)
    }

    /// A method that the server does not have. Clients up to 2025-11-25 expect errors of methods in a successful response.
    pub(super) fn method_not_found(method: &str, status: StatusCode) -> Self {
        Self::new(-32601, status, format!("this server does not have the method {method:?}"))
    }

    /// Parameters that do not fit the method.
    pub(super) fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(-32602, StatusCode::OK, message)
    }

    /// Metadata that every request must have is missing.
    pub(super) fn missing_metadata(message: impl Into<String>) -> Self {
        Self::new(-32602, StatusCode::BAD_REQUEST, message)
    }

    /// A header does not say what the body says.
    pub(super) fn header_mismatch(message: impl Into<String>) -> Self {
        Self::new(-32020, StatusCode::BAD_REQUEST, message)
    }

    /// A version that the server does not speak.
    pub(super) fn unsupported_version(requested: &str, supported: &[&str]) -> Self {
        let message = format!("protocol version {requested:?} is not supported");
        let data = json!({"requested": requested, "supported": supported});
        Self { data: Some(data), ..Self::new(-32022, StatusCode::BAD_REQUEST, message) }
    }

    /// The session of the protocol is unknown: the client has to begin again.
    pub(super) fn unknown_client_session() -> Self {
        Self::new(-32600, StatusCode::NOT_FOUND, "this Mcp-Session-Id is not from this server; send `initialize`")
    }

    /// Translates a problem of the native API.
    pub(in crate::api::doors) fn from_problem(problem: &ProblemDetails) -> Self {
        let status = problem.code.status();
        let code = match problem.code {
            ProblemCode::InvalidJson => -32700,
            _ if status.is_server_error() => -32603,
            _ => -32600,
        };
        let data = Some(json!({"code": problem.code.name()}));
        Self { data, ..Self::new(code, status, problem.detail.clone()) }
    }

    /// Returns the error as JSON, for the request with this id.
    pub(in crate::api::doors) fn to_json(&self, id: Option<Value>) -> String {
        let error = JsonRpcFailure { code: self.code, message: self.message.clone(), data: self.data.clone() };
        to_text(&JsonRpcResponse { jsonrpc: JSON_RPC, id, result: None, error: Some(error) })
    }

    /// Returns the HTTP response.
    pub(super) fn response(&self, id: Option<Value>) -> HttpResponse {
        HttpResponse::build(self.status)
            .content_type("application/json")
            .insert_header(("cache-control", "no-store"))
            .body(self.to_json(id))
    }
}

/// Returns the response to a request as JSON.
pub(super) fn result_json(id: &Value, result: Value) -> String {
    to_text(&JsonRpcResponse { jsonrpc: JSON_RPC, id: Some(id.clone()), result: Some(result), error: None })
}

/// Returns a request of the server as JSON.
pub(super) fn request_json(id: &str, method: &str, params: &Value) -> String {
    json!({"jsonrpc": JSON_RPC, "id": id, "method": method, "params": params}).to_string()
}

/// Returns a notification as JSON.
pub(super) fn notification_json(method: &str, params: &Value) -> String {
    json!({"jsonrpc": JSON_RPC, "method": method, "params": params}).to_string()
}

fn to_text(response: &JsonRpcResponse) -> String {
    serde_json::to_string(response).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart() {
        let classify = |body: Value| serde_json::from_value::<JsonRpcMessage>(body).unwrap().classify();
        let request = RpcRequest { id: json!(1), method: "ping".into(), params: Value::Null };
        for (body, expected) in [
            (json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}), ClientMessage::Request(request)),
            (
                json!({"jsonrpc": "2.0", "method": "notifications/x", "params": {}}),
                ClientMessage::Notification { method: "notifications/x".into(), params: json!({}) },
            ),
            (
                json!({"jsonrpc": "2.0", "id": "a", "result": {}}),
                ClientMessage::Response { id: json!("a"), result: Ok(json!({})) },
            ),
            (
                json!({"jsonrpc": "2.0", "id": 0, "error": {"code": 1}}),
                ClientMessage::Response { id: json!(0), result: Err(json!({"code": 1})) },
            ),
        ] {
            assert_eq!(classify(body.clone()), Ok(expected), "{body}");
        }
        for body in [
            json!({"id": 1, "method": "ping"}),
            json!({"jsonrpc": "1.0", "id": 1, "method": "ping"}),
            json!({"jsonrpc": "2.0", "id": {}, "method": "ping"}),
            json!({"jsonrpc": "2.0", "id": true, "method": "ping"}),
            json!({"jsonrpc": "2.0", "id": 1.5, "method": "ping"}),
            json!({"jsonrpc": "2.0", "id": 2e30, "method": "ping"}),
            json!({"jsonrpc": "2.0"}),
            json!({"jsonrpc": "2.0", "id": 1}),
            json!({"jsonrpc": "2.0", "id": 1, "result": {}, "error": {}}),
        ] {
            assert_eq!(classify(body.clone()).unwrap_err().code, -32600, "{body}");
        }
    }

    #[test]
    fn problems_become_errors_without_a_request() {
        for (code, expected, status) in [
            (ProblemCode::InvalidJson, -32700, 400),
            (ProblemCode::Unauthenticated, -32600, 401),
            (ProblemCode::TooManyRequests, -32600, 429),
            (ProblemCode::StoreUnavailable, -32603, 503),
        ] {
            let error = RpcError::from_problem(&ProblemDetails::new(code, "why"));
            assert_eq!((error.code, error.status.as_u16()), (expected, status));
            let json: Value = serde_json::from_str(&error.to_json(None)).unwrap();
            assert_eq!((json["error"]["message"].as_str(), json.get("id")), (Some("why"), None));
        }
    }
}
