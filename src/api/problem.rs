//! Errors of the API as RFC 9457 problem documents.

use std::{
    fmt,
    num::NonZeroUsize,
    sync::{Arc, LazyLock},
};

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use k8sops_core::{ErrorChain, InvalidId, StoreError, StoreOutage};
use k8sops_models::InvalidSettings;
use k8sops_telemetry::request_id;
use lru::LruCache;
use parking_lot::Mutex;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem_code::ProblemCode;
use crate::runtime::SessionsError;

/// What to do about a damaged session.
pub(super) const DAMAGE_ADVICE: &str = "repair the stored data or delete the session; other sessions are not affected";

/// How many different errors of damaged data are remembered.
const DAMAGE_LIMIT: NonZeroUsize = NonZeroUsize::new(1024).expect("the constant is not zero");

/// The errors of damaged data that were logged.
static LOGGED_DAMAGE: LazyLock<Mutex<LruCache<String, ()>>> = LazyLock::new(|| Mutex::new(LruCache::new(DAMAGE_LIMIT)));

/// Logs that a request found damaged data, once for each error: a client that asks again and again must not fill the log.
pub(super) fn log_damage(error: &str) {
    if LOGGED_DAMAGE.lock().put(error.to_owned(), ()).is_none() {
        tracing::error!(error, "damaged data requested");
    } else {
        tracing::debug!(error, "damaged data requested");
    }
}

/// An error response (`application/problem+json`).
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemDetails {
    /// A URI that identifies the type of problem: `urn:k8sops:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// A short description of the type of problem.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The stable code.
    pub code: ProblemCode,
    /// What was attempted, what was found, and what to do.
    pub detail: String,
    /// The id of the request, as in the service's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub request_id: Option<Arc<str>>,
    /// Boxed because few problems have one.
    #[serde(skip)]
    header: Option<Box<ProblemHeader>>,
}

/// A response header that belongs to a problem.
#[derive(Debug, Clone)]
enum ProblemHeader {
    /// Seconds that differ from the default of the code.
    RetryAfter(u64),
    /// The authentication challenge.
    WwwAuthenticate(String),
}

impl ProblemDetails {
    /// Creates a problem with its explanation.
    #[must_use]
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:k8sops:problem:{}", code.name()),
            title: code.title(),
            status: code.status().as_u16(),
            code,
            detail: detail.into(),
            request_id: request_id::current(),
            header: None,
        }
    }

    /// Creates an `unauthenticated` problem with the challenge for `WWW-Authenticate`.
    #[must_use]
    pub fn unauthenticated(detail: impl Into<String>, challenge: String) -> Self {
        let header = Some(Box::new(ProblemHeader::WwwAuthenticate(challenge)));
        Self { header, ..Self::new(ProblemCode::Unauthenticated, detail) }
    }

    /// Sets the seconds after which a retry may succeed.
    #[must_use]
    pub fn with_retry_after(self, seconds: u64) -> Self {
        Self { header: Some(Box::new(ProblemHeader::RetryAfter(seconds))), ..self }
    }

    /// Sets the id of the current request, for a problem that was found on another thread.
    #[must_use]
    pub fn with_current_request(self) -> Self {
        Self { request_id: request_id::current(), ..self }
    }

    /// Creates an `invalid_request` problem.
    #[must_use]
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(ProblemCode::InvalidRequest, detail)
    }

    /// Returns the HTTP response.
    #[must_use]
    pub fn response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.code.status());
        response.content_type("application/problem+json");
        let mut retry_after = self.code.retry_after_seconds().map(u64::from);
        match self.header.as_deref() {
            Some(ProblemHeader::RetryAfter(seconds)) => retry_after = Some(*seconds),
            Some(ProblemHeader::WwwAuthenticate(challenge)) => {
                response.insert_header((header::WWW_AUTHENTICATE, challenge.as_str()));
            }
            None => {}
        }
        if let Some(seconds) = retry_after {
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
        let detail = ErrorChain(&error).to_string();
        let code = match error {
            SessionsError::NotFound(_) => ProblemCode::SessionNotFound,
            SessionsError::TooMany(_) => ProblemCode::TooManySessions,
            SessionsError::ApprovalNotFound(_) => ProblemCode::ApprovalNotFound,
            SessionsError::ApprovalClosed(_) => ProblemCode::ApprovalClosed,
            SessionsError::ApproverRequired => ProblemCode::ApproverRequired,
            SessionsError::TooManyRuns(_) => ProblemCode::TooManyRuns,
            SessionsError::Overloaded(_) => ProblemCode::Overloaded,
            SessionsError::ArgumentMismatch(_)
            | SessionsError::ElicitationMismatch(_)
            | SessionsError::ArgumentsNotEditable => ProblemCode::DoesNotFit,
            SessionsError::InputNotFound(_) => ProblemCode::InputNotFound,
            SessionsError::InputClosed(_) => ProblemCode::InputClosed,
            SessionsError::OutputNotFound(_)
            | SessionsError::OutputMissing { .. }
            | SessionsError::PreviewMissing(_) => ProblemCode::OutputNotFound,
            SessionsError::ReplyNotFound(_) => ProblemCode::MessageNotFound,
            SessionsError::ShareNotFound => ProblemCode::ShareNotFound,
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
        let detail = ErrorChain(&error).to_string();
        match error {
            StoreError::Unavailable(error) if error.outage() == StoreOutage::Unconfirmed => Self::new(
                ProblemCode::StoreUnconfirmed,
                format!(
                    "{detail}; what was sent was accepted and may be kept or lost: a command can be sent again with the same \
                     Idempotency-Key (command_id on the WebSocket), and is handled once"
                ),
            ),
            StoreError::Unavailable(error) => Self::new(ProblemCode::of_outage(error.outage()), detail),
            StoreError::NotFound(_) => Self::new(ProblemCode::SessionNotFound, detail),
            StoreError::Busy(_) => Self::new(
                ProblemCode::Busy,
                format!("{detail}; send with \"on_busy\": \"enqueue\" or \"interrupt\", or wait for its run_finished"),
            ),
            StoreError::CommandIdReused => Self::new(ProblemCode::CommandIdReused, detail),
            StoreError::InboxFull(_) => Self::new(ProblemCode::InboxFull, detail),
            StoreError::Corrupt(_) => {
                log_damage(&detail);
                Self::new(ProblemCode::SessionDamaged, format!("{detail}; {DAMAGE_ADVICE}"))
            }
            StoreError::FileDamaged(_) => {
                log_damage(&detail);
                Self::new(
                    ProblemCode::StoredFileDamaged,
                    format!("{detail}; restore or remove this file; sessions are not affected"),
                )
            }
            StoreError::Exists(_)
            | StoreError::Fenced { .. }
            | StoreError::Held(_)
            | StoreError::InUse(_)
            | StoreError::SeqConflict { .. }
            | StoreError::Forked { .. } => {
                tracing::error!(error = %detail, "unexpected store error in the API");
                Self::new(
                    ProblemCode::Internal,
                    "the request failed because of an internal error; see the service's log",
                )
            }
        }
    }
}
