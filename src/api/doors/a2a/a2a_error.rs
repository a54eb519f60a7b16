//! Errors in the forms of both bindings.

use std::borrow::Cow;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::CONTENT_TYPE},
};
use k8sops_core::StoreError;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::task_id::TaskId;
use crate::{
    api::{negotiation::JSON, problem::ProblemDetails, problem_code::ProblemCode, typed_json::JsonMismatch},
    runtime::SessionsError,
};

/// The paths of the JSON-RPC binding. What lies below them is of the other binding.
const RPC_PATHS: [&str; 2] = ["/a2a", "/a2a/"];
/// The domain of the protocol's reasons.
const PROTOCOL_DOMAIN: &str = "a2a-protocol.org";
/// The domain of reasons that are codes of the native API.
const OWN_DOMAIN: &str = "k8sops";

/// The errors of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum A2aErrorKind {
    InvalidJson,
    InvalidRequest,
    MethodNotFound,
    InvalidParams,
    Internal,
    TaskNotFound,
    TaskNotCancelable,
    PushNotificationNotSupported,
    UnsupportedOperation,
    ContentTypeNotSupported,
    VersionNotSupported,
}

impl A2aErrorKind {
    /// Returns the code of JSON-RPC.
    fn rpc_code(self) -> i32 {
        match self {
            Self::InvalidJson => -32700,
            Self::InvalidRequest => -32600,
            Self::MethodNotFound => -32601,
            Self::InvalidParams => -32602,
            Self::Internal => -32603,
            Self::TaskNotFound => -32001,
            Self::TaskNotCancelable => -32002,
            Self::PushNotificationNotSupported => -32003,
            Self::UnsupportedOperation => -32004,
            Self::ContentTypeNotSupported => -32005,
            Self::VersionNotSupported => -32009,
        }
    }

    fn http_status(self) -> StatusCode {
        match self {
            Self::TaskNotFound | Self::MethodNotFound => StatusCode::NOT_FOUND,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// Returns the name of the status in `google.rpc`.
    fn status_name(self) -> &'static str {
        match self {
            Self::TaskNotFound | Self::MethodNotFound => "NOT_FOUND",
            Self::Internal => "INTERNAL",
            Self::InvalidJson | Self::InvalidRequest | Self::InvalidParams | Self::ContentTypeNotSupported => {
                "INVALID_ARGUMENT"
            }
            _ => "FAILED_PRECONDITION",
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::InvalidJson => "INVALID_JSON",
            Self::InvalidRequest => "INVALID_REQUEST",
            Self::MethodNotFound => "METHOD_NOT_FOUND",
            Self::InvalidParams => "INVALID_PARAMS",
            Self::Internal => "INTERNAL_ERROR",
            Self::TaskNotFound => "TASK_NOT_FOUND",
            Self::TaskNotCancelable => "TASK_NOT_CANCELABLE",
            Self::PushNotificationNotSupported => "PUSH_NOTIFICATION_NOT_SUPPORTED",
            Self::UnsupportedOperation => "UNSUPPORTED_OPERATION",
            Self::ContentTypeNotSupported => "CONTENT_TYPE_NOT_SUPPORTED",
            Self::VersionNotSupported => "VERSION_NOT_SUPPORTED",
        }
    }
}

/// An error of the protocol.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct A2aError {
    kind: A2aErrorKind,
    message: String,
    /// The field of the request that is wrong.
    field: Option<Cow<'static, str>>,
    /// The task that the error is about.
    task_id: Option<String>,
}

impl A2aError {
    pub(super) fn new(kind: A2aErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), field: None, task_id: None }
    }

    /// A parameter is missing or wrong.
    pub(super) fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(A2aErrorKind::InvalidParams, message)
    }

    /// A field of the request is missing or wrong.
    pub(super) fn invalid_field(field: &'static str, message: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..Self::invalid_params(message) }
    }

    /// A field of the request has another type than the protocol says.
    pub(super) fn wrong_type(mismatch: &JsonMismatch) -> Self {
        let field = mismatch.field().map(|field| field.to_owned().into());
        Self { field, ..Self::invalid_params(mismatch.to_string()) }
    }

    pub(super) fn task_not_found(id: &str) -> Self {
        let message = "there is no such task: it never was, its session was deleted, or its events are no longer kept";
        Self { task_id: Some(id.to_owned()), ..Self::new(A2aErrorKind::TaskNotFound, message) }
    }

    /// Names the task that the error is about.
    pub(super) fn of_task(self, id: TaskId) -> Self {
        Self { task_id: Some(id.to_string()), ..self }
    }

    fn details(&self) -> Value {
        let metadata: Map<String, Value> =
            self.task_id.iter().map(|id| ("taskId".to_owned(), Value::from(id.as_str()))).collect();
        let mut details = vec![error_info(self.kind.reason(), PROTOCOL_DOMAIN, metadata)];
        if let Some(field) = &self.field {
            details.push(json!({
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [{"field": field, "description": self.message}],
            }));
        }
        Value::Array(details)
    }

    /// Returns the error in a response of JSON-RPC.
    pub(super) fn to_rpc(&self, id: &Value) -> Value {
        rpc_failure(id, self.kind.rpc_code(), &self.message, &self.details())
    }

    /// Returns the error as `google.rpc.Status`.
    pub(super) fn to_status(&self) -> String {
        status_body(self.kind.http_status(), self.kind.status_name(), &self.message, &self.details())
    }

    /// Returns the response of the HTTP+JSON binding.
    pub(super) fn http_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.kind.http_status());
        response.content_type(JSON).insert_header(("cache-control", "no-store")).body(self.to_status())
    }
}

/// Why a request fails.
#[derive(Debug)]
pub(super) enum A2aFailure {
    /// By the rules of the protocol.
    Protocol(A2aError),
    /// By those of the service, as over any door: roles, limits, outages.
    Problem(ProblemDetails),
}

impl From<A2aError> for A2aFailure {
    fn from(error: A2aError) -> Self {
        Self::Protocol(error)
    }
}

impl From<ProblemDetails> for A2aFailure {
    fn from(problem: ProblemDetails) -> Self {
        let kind = match problem.code {
            ProblemCode::InvalidJson
            | ProblemCode::InvalidRequest
            | ProblemCode::MessageTooLong
            | ProblemCode::CommandIdReused
            | ProblemCode::ApprovalNotFound
            | ProblemCode::ApprovalClosed
            | ProblemCode::InputNotFound
            | ProblemCode::InputClosed
            | ProblemCode::DoesNotFit => A2aErrorKind::InvalidParams,
            ProblemCode::SessionNotFound => A2aErrorKind::TaskNotFound,
            _ => return Self::Problem(problem),
        };
        Self::Protocol(A2aError::new(kind, problem.detail))
    }
}

/// Returns why a body cannot be read. One that is no JSON and does not say that it is has the wrong type; the type of others is
/// ignored, because tools send JSON under any.
pub(super) fn reject_body(request: &HttpRequest, problem: ProblemDetails) -> A2aFailure {
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_json = content_type.is_none_or(|kind| kind.to_ascii_lowercase().contains("json"));
    match problem.code {
        ProblemCode::InvalidJson if !is_json => {
            let why = format!("the body is not JSON: {}", problem.detail);
            A2aError::new(A2aErrorKind::ContentTypeNotSupported, why).into()
        }
        ProblemCode::InvalidJson => A2aError::new(A2aErrorKind::InvalidJson, problem.detail).into(),
        _ => A2aFailure::Problem(problem),
    }
}

impl From<SessionsError> for A2aFailure {
    fn from(error: SessionsError) -> Self {
        ProblemDetails::from(error).into()
    }
}

impl From<StoreError> for A2aFailure {
    fn from(error: StoreError) -> Self {
        ProblemDetails::from(error).into()
    }
}

/// An error of the HTTP+JSON binding, as `google.rpc.Status`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = A2aStatus)]
pub(super) struct StatusBody {
    error: StatusError,
}

/// What is wrong.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = A2aStatusError)]
struct StatusError {
    /// The HTTP status.
    code: u16,
    /// The name of the status, such as `NOT_FOUND`.
    status: &'static str,
    /// What was attempted, what was found, and what to do.
    message: String,
    /// A `google.rpc.ErrorInfo` with the `reason`, and for wrong fields a `google.rpc.BadRequest`.
    #[schema(value_type = Vec<Value>)]
    details: Value,
}

fn status_body(code: StatusCode, status: &'static str, message: &str, details: &Value) -> String {
    let error = StatusError { code: code.as_u16(), status, message: message.to_owned(), details: details.clone() };
    serde_json::to_string(&StatusBody { error }).unwrap_or_default()
}

fn rpc_failure(id: &Value, code: i32, message: &str, details: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message, "data": details}})
}

fn error_info(reason: &str, domain: &str, metadata: Map<String, Value>) -> Value {
    let mut info = json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": domain});
    if !metadata.is_empty() {
        info["metadata"] = Value::Object(metadata);
    }
    info
}

/// Returns a problem of the native API in the form of the binding that a path belongs to.
pub(in crate::api::doors) fn express_problem(path: &str, problem: &ProblemDetails) -> String {
    let status = problem.code.status();
    let details = json!([error_info(&problem.code.name().to_uppercase(), OWN_DOMAIN, Map::new())]);
    if RPC_PATHS.contains(&path) {
        let code = match problem.code {
            ProblemCode::InvalidJson => A2aErrorKind::InvalidJson.rpc_code(),
            _ if status.is_server_error() => A2aErrorKind::Internal.rpc_code(),
            // The protocol has no codes for these.
            _ => -32000,
        };
        return rpc_failure(&Value::Null, code, &problem.detail, &details).to_string();
    }
    let name = match status.as_u16() {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        405 => "UNIMPLEMENTED",
        408 => "DEADLINE_EXCEEDED",
        409 => "FAILED_PRECONDITION",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        500.. => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    };
    status_body(status, name, &problem.detail, &details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_have_the_form_of_the_binding() {
        for (code, status, name, rpc_code) in [
            (ProblemCode::Unauthenticated, 401, "UNAUTHENTICATED", -32000),
            (ProblemCode::RoleRequired, 403, "PERMISSION_DENIED", -32000),
            (ProblemCode::TooManyRuns, 429, "RESOURCE_EXHAUSTED", -32000),
            (ProblemCode::StoreUnavailable, 503, "UNAVAILABLE", -32603),
            (ProblemCode::InvalidJson, 400, "INVALID_ARGUMENT", -32700),
        ] {
            let problem = ProblemDetails::new(code, "why");
            let rpc: Value = serde_json::from_str(&express_problem("/a2a", &problem)).unwrap();
            assert_eq!((&rpc["error"]["code"], &rpc["id"]), (&json!(rpc_code), &Value::Null));
            let http: Value = serde_json::from_str(&express_problem("/a2a/v1/tasks", &problem)).unwrap();
            assert_eq!((&http["error"]["code"], &http["error"]["status"]), (&json!(status), &json!(name)));
            for details in [&rpc["error"]["data"], &http["error"]["details"]] {
                assert_eq!(details[0]["reason"], code.name().to_uppercase());
            }
        }
    }

    #[test]
    fn protocol_errors_name_reason_field_and_task() {
        let error = A2aError::task_not_found("t").to_rpc(&json!(7));
        assert_eq!((&error["error"]["code"], &error["id"]), (&json!(-32001), &json!(7)));
        let info = &error["error"]["data"][0];
        assert_eq!((&info["reason"], &info["metadata"]["taskId"]), (&json!("TASK_NOT_FOUND"), &json!("t")));
        let error = A2aError::invalid_field("message.parts", "empty").to_rpc(&json!("a"));
        assert_eq!(error["error"]["data"][1]["fieldViolations"][0]["field"], "message.parts");
    }
}
