//! Errors of the API: RFC 9457 problem documents with a stable `code`. The one place that maps them to HTTP.

use std::{collections::BTreeMap, fmt, sync::Arc};

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use serde::{Deserialize, Serialize};
use utoipa::{
    ToSchema,
    openapi::{ContentBuilder, Header, HeaderBuilder, Object, Ref, RefOr, Response, ResponseBuilder, Type},
};

use crate::runtime::SessionsError;
use k8sops_core::{InvalidId, StoreError};
use k8sops_models::InvalidSettings;
use k8sops_telemetry::request_id;

/// The stable word for an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Code)]
pub enum ProblemCode {
    /// The body is not JSON, or not of the expected shape.
    InvalidJson,
    /// A value is not allowed; `detail` says which and what is.
    InvalidRequest,
    /// The message is longer than the service takes.
    MessageTooLong,
    /// The body or frame is larger than the service takes.
    PayloadTooLarge,
    /// There is nothing at this path.
    NotFound,
    /// The path does not know this method.
    MethodNotAllowed,
    /// It is not known who calls; `WWW-Authenticate` says what to send.
    Unauthenticated,
    /// The caller's roles do not allow it.
    RoleRequired,
    /// Somebody else must answer: one with the role `approver`.
    ApproverRequired,
    /// Who calls cannot be found out now.
    IdentityUnavailable,
    /// The user makes too many requests.
    TooManyRequests,
    /// The user has as many runs as allowed at a time.
    TooManyRuns,
    /// The user has as many streams as allowed at a time.
    TooManyStreams,
    /// The replica has as much to do as it takes on.
    Overloaded,
    /// The body did not come in time.
    RequestTimeout,
    /// The user has no such session.
    SessionNotFound,
    /// The run in progress has no such approval.
    ApprovalNotFound,
    /// The approval was answered before, has expired, or its call has ended.
    ApprovalClosed,
    /// No question of this id belongs to the run in progress.
    InputNotFound,
    /// The question waits for no answer any more.
    InputClosed,
    /// Edited arguments do not fit the tool, or values do not fit the question.
    DoesNotFit,
    /// No output of such a tool call is kept.
    OutputNotFound,
    /// The user has no such memory.
    MemoryNotFound,
    /// A run is in progress, and the message was to be refused in that case.
    Busy,
    /// The command id, or `Idempotency-Key`, was used before for something else.
    CommandIdReused,
    /// Too many commands wait in the session's inbox.
    InboxFull,
    /// The user has as many sessions as allowed, and all are busy.
    TooManySessions,
    /// A web page of another origin, or another host name, is not let in.
    OriginNotAllowed,
    /// The cursor points beyond the newest event.
    CursorBeyondHead,
    /// The request must be a WebSocket handshake.
    UpgradeRequired,
    /// What is stored of the session cannot be read; `detail` says where it is. It can be repaired there, or deleted.
    SessionDamaged,
    /// The store cannot be reached.
    StoreUnavailable,
    /// The service is stopping.
    Stopping,
    /// The command is durable and not done yet.
    Pending,
    /// A fault in k8sops.
    Internal,
}

impl ProblemCode {
    /// The status that goes with it.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::InvalidJson | Self::InvalidRequest | Self::CursorBeyondHead => StatusCode::BAD_REQUEST,
            Self::MessageTooLong | Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotFound
            | Self::SessionNotFound
            | Self::ApprovalNotFound
            | Self::InputNotFound
            | Self::OutputNotFound
            | Self::MemoryNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::OriginNotAllowed | Self::RoleRequired | Self::ApproverRequired => StatusCode::FORBIDDEN,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::ApprovalClosed | Self::InputClosed | Self::Busy | Self::TooManySessions => StatusCode::CONFLICT,
            Self::CommandIdReused | Self::DoesNotFit => StatusCode::UNPROCESSABLE_ENTITY,
            Self::InboxFull | Self::TooManyRequests | Self::TooManyRuns | Self::TooManyStreams => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::UpgradeRequired => StatusCode::UPGRADE_REQUIRED,
            Self::StoreUnavailable | Self::Stopping | Self::Pending | Self::IdentityUnavailable | Self::Overloaded => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::SessionDamaged | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Seconds after which the same request may do better.
    fn retry_after(self) -> Option<u32> {
        match self {
            Self::InboxFull
            | Self::TooManyRequests
            | Self::StoreUnavailable
            | Self::Stopping
            | Self::Pending
            | Self::IdentityUnavailable => Some(1),
            Self::TooManyRuns | Self::TooManyStreams | Self::Overloaded => Some(5),
            _ => None,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::InvalidJson => "The body cannot be read",
            Self::InvalidRequest => "The request is not valid",
            Self::MessageTooLong => "The message is too long",
            Self::PayloadTooLarge => "The body is too large",
            Self::NotFound => "There is nothing here",
            Self::MethodNotAllowed => "The method is not allowed here",
            Self::Unauthenticated => "It is not known who calls",
            Self::RoleRequired => "The role does not allow it",
            Self::ApproverRequired => "Somebody else must approve",
            Self::IdentityUnavailable => "Who calls cannot be found out now",
            Self::TooManyRequests => "Too many requests",
            Self::TooManyRuns => "Too many runs",
            Self::TooManyStreams => "Too many streams",
            Self::Overloaded => "The replica is busy",
            Self::RequestTimeout => "The request took too long",
            Self::SessionNotFound => "There is no such session",
            Self::ApprovalNotFound => "There is no such approval",
            Self::ApprovalClosed => "The approval is closed",
            Self::InputNotFound => "There is no such question",
            Self::InputClosed => "The question is closed",
            Self::DoesNotFit => "The values do not fit the schema",
            Self::OutputNotFound => "There is no such output",
            Self::MemoryNotFound => "There is no such memory",
            Self::Busy => "The session is busy",
            Self::CommandIdReused => "The command id was used before",
            Self::InboxFull => "Too many commands wait",
            Self::TooManySessions => "Too many sessions",
            Self::OriginNotAllowed => "The origin is not allowed",
            Self::CursorBeyondHead => "The cursor is beyond the log",
            Self::UpgradeRequired => "This is a WebSocket",
            Self::SessionDamaged => "The session is damaged",
            Self::StoreUnavailable => "The store is not available",
            Self::Stopping => "The service is stopping",
            Self::Pending => "Accepted and not done yet",
            Self::Internal => "A fault in k8sops",
        }
    }

    /// The word itself.
    #[must_use]
    pub fn word(self) -> String {
        serde_json::to_value(self).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
    }
}

/// An error as the API answers it (`application/problem+json`).
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemDetails {
    /// A URI that names the kind of problem: `urn:k8sops:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in words.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The stable word.
    pub code: ProblemCode,
    /// What was attempted, what was found, what to do.
    pub detail: String,
    /// The id of the request, as the log has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub request_id: Option<Arc<str>>,
    /// Boxed, since few have any.
    #[serde(skip)]
    headers: Option<Box<Headers>>,
}

/// What goes beside the document.
#[derive(Debug, Clone)]
enum Headers {
    /// Seconds, where they are not those of the code.
    RetryAfter(u64),
    /// What to send.
    WwwAuthenticate(String),
}

impl ProblemDetails {
    /// A problem with its explanation.
    #[must_use]
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:k8sops:problem:{}", code.word()),
            title: code.title(),
            status: code.status().as_u16(),
            code,
            detail: detail.into(),
            request_id: request_id::current(),
            headers: None,
        }
    }

    /// A caller who is nobody, with what to send.
    #[must_use]
    pub fn unauthenticated(detail: impl Into<String>, challenge: String) -> Self {
        let headers = Some(Box::new(Headers::WwwAuthenticate(challenge)));
        Self { headers, ..Self::new(ProblemCode::Unauthenticated, detail) }
    }

    /// The same with the seconds after which the request may do better.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        Self { headers: Some(Box::new(Headers::RetryAfter(seconds))), ..self }
    }

    /// A value that is not allowed.
    #[must_use]
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(ProblemCode::InvalidRequest, detail)
    }

    /// The answer.
    #[must_use]
    pub fn response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.code.status());
        response.content_type("application/problem+json");
        let mut wait = self.code.retry_after().map(u64::from);
        match self.headers.as_deref() {
            Some(Headers::RetryAfter(seconds)) => wait = Some(*seconds),
            Some(Headers::WwwAuthenticate(challenge)) => {
                response.insert_header((header::WWW_AUTHENTICATE, challenge.as_str()));
            }
            None => {}
        }
        if let Some(seconds) = wait {
            response.insert_header((header::RETRY_AFTER, seconds.to_string()));
        }
        if let Some(id) = &self.request_id {
            response.insert_header((request_id::REQUEST_ID_HEADER, &**id));
        }
        response.body(serde_json::to_vec(self).expect("a problem has string keys and no failing Serialize"))
    }
}

impl fmt::Display for ProblemDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.title, self.detail)
    }
}

impl ResponseError for ProblemDetails {
    fn status_code(&self) -> StatusCode {
        self.code.status()
    }

    fn error_response(&self) -> HttpResponse {
        self.response()
    }
}

impl From<InvalidId> for ProblemDetails {
    fn from(error: InvalidId) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<InvalidSettings> for ProblemDetails {
    fn from(error: InvalidSettings) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<SessionsError> for ProblemDetails {
    fn from(error: SessionsError) -> Self {
        let detail = error.to_string();
        let code = match error {
            SessionsError::NotFound(_) => ProblemCode::SessionNotFound,
            SessionsError::TooMany(_) => ProblemCode::TooManySessions,
            SessionsError::ApprovalNotFound(_) => ProblemCode::ApprovalNotFound,
            SessionsError::ApprovalClosed(_) => ProblemCode::ApprovalClosed,
            SessionsError::ApproverRequired => ProblemCode::ApproverRequired,
            SessionsError::TooManyRuns(_) => ProblemCode::TooManyRuns,
            SessionsError::Overloaded(_) => ProblemCode::Overloaded,
            SessionsError::DoesNotFit(_) => ProblemCode::DoesNotFit,
            SessionsError::InputNotFound(_) => ProblemCode::InputNotFound,
            SessionsError::InputClosed(_) => ProblemCode::InputClosed,
            SessionsError::OutputNotFound(_) => ProblemCode::OutputNotFound,
            SessionsError::Settings(error) => return error.into(),
            SessionsError::Pending => ProblemCode::Pending,
            SessionsError::Stopping => ProblemCode::Stopping,
            SessionsError::Store(error) => return error.into(),
        };
        Self::new(code, detail)
    }
}

impl From<StoreError> for ProblemDetails {
    fn from(error: StoreError) -> Self {
        let detail = error.to_string();
        match error {
            StoreError::NotFound(_) => Self::new(ProblemCode::SessionNotFound, detail),
            StoreError::Busy(_) => Self::new(
                ProblemCode::Busy,
                format!("{detail}; send with \"on_busy\": \"enqueue\" or \"interrupt\", or wait for its run_finished"),
            ),
            StoreError::CommandIdReused => Self::new(ProblemCode::CommandIdReused, detail),
            StoreError::InboxFull(_) => Self::new(ProblemCode::InboxFull, detail),
            StoreError::Corrupt(_) => {
                tracing::error!(error = %detail, "a damaged session was asked for");
                Self::new(
                    ProblemCode::SessionDamaged,
                    format!(
                        "{detail}; repair what is stored there, or delete the session. Other sessions are not affected"
                    ),
                )
            }
            StoreError::Unavailable(_) => Self::new(ProblemCode::StoreUnavailable, detail),
            StoreError::Exists(_)
            | StoreError::Fenced { .. }
            | StoreError::Held(_)
            | StoreError::InUse(_)
            | StoreError::SeqConflict { .. } => {
                tracing::error!(error = %detail, "a store error reached the API");
                Self::new(
                    ProblemCode::Internal,
                    "the request could not be done because of a fault; see the service's log",
                )
            }
        }
    }
}

/// The error answers of an operation, for the OpenAPI document: one per status, naming its codes.
pub(super) fn documented(codes: &[ProblemCode]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for code in codes {
        by_status.entry(code.status().as_str().to_owned()).or_default().push(format!("`{}`", code.word()));
    }
    let response = |status: &str, words: Vec<String>| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let response =
            ResponseBuilder::new().description(words.join(", ")).content("application/problem+json", content);
        let header = match status {
            "401" => Some(("WWW-Authenticate", "The scheme by which callers say who they are.")),
            "426" => Some(("Upgrade", "The protocol to ask for.")),
            "429" | "503" => Some(("Retry-After", "Seconds to wait, where that is known.")),
            _ => None,
        };
        RefOr::T(match header {
            Some((name, says)) => response.header(name, described(says)).build(),
            None => response.build(),
        })
    };
    by_status.into_iter().map(|(status, words)| (status.clone(), response(&status, words))).collect()
}

fn described(says: &str) -> Header {
    HeaderBuilder::new().schema(Some(Object::with_type(Type::String))).description(Some(says)).build()
}

/// Declares a type that documents the errors of an operation.
macro_rules! document_errors {
    ($name:ident: $($code:ident),+ $(,)?) => {
        struct $name;

        impl utoipa::IntoResponses for $name {
            fn responses()
            -> std::collections::BTreeMap<String, utoipa::openapi::RefOr<utoipa::openapi::response::Response>> {
                $crate::api::problem::documented(&[$($crate::api::ProblemCode::$code),+])
            }
        }
    };
}
pub(super) use document_errors;
