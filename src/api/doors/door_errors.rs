//! Errors in the form that the clients of a door read, wherever in the service they come from.

use actix_web::{
    body::{BoxBody, EitherBody, MessageBody},
    dev::ServiceResponse,
    http::header::{CONTENT_TYPE, HeaderValue},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{a2a::express_problem, client_door::ClientDoor, mcp::RpcError};
use crate::api::{negotiation::JSON, problem::ProblemDetails, problem_code::ProblemCode};

/// An error as OpenAI's API has it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct OpenAiError {
    pub(super) error: OpenAiErrorBody,
}

/// What is wrong.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct OpenAiErrorBody {
    /// What was attempted, what was found, and what to do.
    pub(super) message: String,
    /// The kind of error, such as `invalid_request_error`.
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    /// The field of the request that is wrong, if it is one.
    pub(super) param: Option<&'static str>,
    /// The stable code: that of OpenAI's API where it has one, else that of the native API.
    pub(super) code: String,
}

impl OpenAiError {
    /// Creates an error.
    pub(super) fn new(kind: &'static str, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { error: OpenAiErrorBody { message: message.into(), kind, param: None, code: code.into() } }
    }

    /// Translates a problem of the native API.
    pub(super) fn from_problem(problem: &ProblemDetails) -> Self {
        let kind = match problem.code.status().as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        let code = match problem.code {
            ProblemCode::Unauthenticated => "invalid_api_key".to_owned(),
            ProblemCode::TooManyRequests => "rate_limit_exceeded".to_owned(),
            ProblemCode::ModelNotFound => "model_not_found".to_owned(),
            code => code.name(),
        };
        let mut error = Self::new(kind, code, problem.detail.clone());
        error.error.param = match problem.code {
            ProblemCode::ModelNotFound => Some("model"),
            ProblemCode::PreviousResponseNotFound => Some("previous_response_id"),
            _ => None,
        };
        error
    }

    /// Returns the error as JSON.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Replaces the body of an error response by the form of the door that its path belongs to.
pub(in crate::api) fn express_error<B: MessageBody + 'static>(
    response: ServiceResponse<EitherBody<B>>,
) -> ServiceResponse<EitherBody<B>> {
    let write_error: fn(&str, &ProblemDetails) -> String = match ClientDoor::of_path(response.request().path()) {
        Some(ClientDoor::OpenAi | ClientDoor::Responses) => |_, problem| OpenAiError::from_problem(problem).to_json(),
        Some(ClientDoor::Mcp) => |_, problem| RpcError::from_problem(problem).to_json(None),
        Some(ClientDoor::A2a) => express_problem,
        Some(ClientDoor::Native | ClientDoor::AgUi) | None => return response,
    };
    let problem = response.response().error().and_then(|error| error.as_error::<ProblemDetails>());
    let path = response.request().path();
    let Some(body) = problem.map(|problem| write_error(path, problem)) else { return response };
    response.map_body(|head, _| {
        head.headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        EitherBody::right(BoxBody::new(body))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_have_the_form_of_the_door() {
        for (code, kind, name) in [
            (ProblemCode::Unauthenticated, "authentication_error", "invalid_api_key"),
            (ProblemCode::RoleRequired, "permission_error", "role_required"),
            (ProblemCode::TooManyRequests, "rate_limit_error", "rate_limit_exceeded"),
            (ProblemCode::PayloadTooLarge, "invalid_request_error", "payload_too_large"),
            (ProblemCode::CommandIdReused, "invalid_request_error", "command_id_reused"),
            (ProblemCode::NotFound, "invalid_request_error", "not_found"),
            (ProblemCode::StoreUnavailable, "server_error", "store_unavailable"),
        ] {
            let error = OpenAiError::from_problem(&ProblemDetails::new(code, "why")).error;
            assert_eq!((error.kind, &*error.code, &*error.message), (kind, name, "why"));
        }
    }
}
