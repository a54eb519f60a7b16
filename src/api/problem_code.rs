//! The stable error codes of the API. This is the only place that maps them to HTTP.

use actix_web::http::StatusCode;
use k8sops_core::StoreOutage;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The stable code of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Code)]
pub enum ProblemCode {
    /// The body is not valid JSON or does not match the schema.
    InvalidJson,
    /// A value is not allowed. `detail` names it and the allowed values.
    InvalidRequest,
    /// The message is longer than the limit.
    MessageTooLong,
    /// The body or frame is larger than the limit.
    PayloadTooLarge,
    /// No route matches the path.
    NotFound,
    /// The path does not support the method.
    MethodNotAllowed,
    /// Credentials are missing or invalid. `WWW-Authenticate` names the expected scheme.
    Unauthenticated,
    /// The caller's roles do not permit the operation.
    RoleRequired,
    /// Another user with the role `approver` must answer.
    ApproverRequired,
    /// The credentials cannot be verified at the moment.
    IdentityUnavailable,
    /// The user exceeds the limit of requests.
    TooManyRequests,
    /// The user exceeds the limit of concurrent runs.
    TooManyRuns,
    /// The user exceeds the limit of open streams.
    TooManyStreams,
    /// The replica is at its capacity.
    Overloaded,
    /// The body did not arrive within the time limit.
    RequestTimeout,
    /// The user has no session with this id.
    SessionNotFound,
    /// The run in progress has no approval with this id.
    ApprovalNotFound,
    /// The approval was already answered, has expired, or its tool call has ended.
    ApprovalClosed,
    /// The run in progress has no question with this id.
    InputNotFound,
    /// The question is not open for answers anymore.
    InputClosed,
    /// The edited arguments do not match the tool's schema, or the values do not match the question's schema.
    DoesNotFit,
    /// No output is stored for this tool call.
    OutputNotFound,
    /// There is no such link to a session: it does not exist, has expired, or was revoked.
    ShareNotFound,
    /// The session has no such message.
    MessageNotFound,
    /// The user has no memory with this id.
    MemoryNotFound,
    /// There is no model with this name.
    ModelNotFound,
    /// A run is in progress, and the message asked to be rejected in that case.
    Busy,
    /// The command id or `Idempotency-Key` was already used for a different command.
    CommandIdReused,
    /// The inbox of the session is full.
    InboxFull,
    /// The user has reached the limit of sessions, and all of them are busy.
    TooManySessions,
    /// The origin of the web page, or the requested host, is not allowed.
    OriginNotAllowed,
    /// The cursor is beyond the newest event, and the store cannot have lost an event.
    CursorBeyondHead,
    /// The request must be a WebSocket handshake.
    UpgradeRequired,
    /// The stored session is damaged. `detail` names the location. The session can be repaired there or deleted.
    SessionDamaged,
    /// A stored file that belongs to no session, such as the usage of a day, is damaged. `detail` names it.
    StoredFileDamaged,
    /// The store is unavailable.
    StoreUnavailable,
    /// The memory or the disk of the store is full. It can be read.
    StoreFull,
    /// The store accepts no writes: it is a replica, or a read-only file system. It can be read.
    StoreReadOnly,
    /// The store is reading its data after a start.
    StoreLoading,
    /// The store rejects the credentials, or the user lacks a right, which `detail` names.
    StoreAccessDenied,
    /// The store cannot save its data, and accepts no writes until it can.
    StoreNotPersisting,
    /// The store has not confirmed in time that what was accepted survives a failure: it may be kept or lost. The same request
    /// with the same `Idempotency-Key` can be sent again.
    StoreUnconfirmed,
    /// The configuration of the store, or its address, is not what the service needs.
    StoreMisconfigured,
    /// The service is shutting down.
    Stopping,
    /// The command is durable but not yet executed.
    Pending,
    /// An internal error.
    Internal,
}

impl ProblemCode {
    /// Returns the HTTP status of the code.
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
            | Self::ShareNotFound
            | Self::MessageNotFound
            | Self::MemoryNotFound
            | Self::ModelNotFound => StatusCode::NOT_FOUND,
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
            Self::StoreUnavailable
            | Self::StoreFull
            | Self::StoreReadOnly
            | Self::StoreLoading
            | Self::StoreAccessDenied
            | Self::StoreNotPersisting
            | Self::StoreUnconfirmed
            | Self::StoreMisconfigured
            | Self::Stopping
            | Self::Pending
            | Self::IdentityUnavailable
            | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::SessionDamaged | Self::StoredFileDamaged | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Returns the default of `Retry-After` in seconds, for codes that may succeed when retried.
    pub(super) fn retry_after_seconds(self) -> Option<u32> {
        match self {
            Self::InboxFull
            | Self::TooManyRequests
            | Self::StoreUnavailable
            | Self::StoreReadOnly
            | Self::StoreLoading
            | Self::StoreUnconfirmed
            | Self::Stopping
            | Self::Pending
            | Self::IdentityUnavailable => Some(1),
            Self::TooManyRuns | Self::TooManyStreams | Self::Overloaded => Some(5),
            // An operator has to do something first.
            Self::StoreFull | Self::StoreAccessDenied | Self::StoreNotPersisting | Self::StoreMisconfigured => Some(30),
            _ => None,
        }
    }

    /// Returns the short description of the code.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::InvalidJson => "Invalid request body",
            Self::InvalidRequest => "Invalid request",
            Self::MessageTooLong => "Message too long",
            Self::PayloadTooLarge => "Body too large",
            Self::NotFound => "Not found",
            Self::MethodNotAllowed => "Method not allowed",
            Self::Unauthenticated => "Authentication required",
            Self::RoleRequired => "Role required",
            Self::ApproverRequired => "Approval by another user required",
            Self::IdentityUnavailable => "Authentication unavailable",
            Self::TooManyRequests => "Too many requests",
            Self::TooManyRuns => "Too many runs",
            Self::TooManyStreams => "Too many streams",
            Self::Overloaded => "Replica overloaded",
            Self::RequestTimeout => "Request timeout",
            Self::SessionNotFound => "Session not found",
            Self::ApprovalNotFound => "Approval not found",
            Self::ApprovalClosed => "Approval closed",
            Self::InputNotFound => "Question not found",
            Self::InputClosed => "Question closed",
            Self::DoesNotFit => "Values do not match the schema",
            Self::OutputNotFound => "Output not found",
            Self::ShareNotFound => "Link not found",
            Self::MessageNotFound => "Message not found",
            Self::MemoryNotFound => "Memory not found",
            Self::ModelNotFound => "Model not found",
            Self::Busy => "Session busy",
            Self::CommandIdReused => "Command id already used",
            Self::InboxFull => "Inbox full",
            Self::TooManySessions => "Too many sessions",
            Self::OriginNotAllowed => "Origin not allowed",
            Self::CursorBeyondHead => "Cursor beyond the newest event",
            Self::UpgradeRequired => "WebSocket upgrade required",
            Self::SessionDamaged => "Session damaged",
            Self::StoredFileDamaged => "Stored file damaged",
            Self::StoreUnavailable => "Store unavailable",
            Self::StoreFull => "Store full",
            Self::StoreReadOnly => "Store read-only",
            Self::StoreLoading => "Store loading",
            Self::StoreAccessDenied => "Store denies access",
            Self::StoreNotPersisting => "Store cannot save",
            Self::StoreUnconfirmed => "Store has not confirmed a write",
            Self::StoreMisconfigured => "Store misconfigured",
            Self::Stopping => "Service shutting down",
            Self::Pending => "Command pending",
            Self::Internal => "Internal error",
        }
    }

    /// The codes of a store that does not do what it is asked.
    pub(super) const STORE_OUTAGES: [Self; 8] = [
        Self::StoreUnavailable,
        Self::StoreFull,
        Self::StoreReadOnly,
        Self::StoreLoading,
        Self::StoreAccessDenied,
        Self::StoreNotPersisting,
        Self::StoreUnconfirmed,
        Self::StoreMisconfigured,
    ];

    /// Returns the code of a store that does not do what it is asked.
    pub(super) fn of_outage(outage: StoreOutage) -> Self {
        match outage {
            StoreOutage::Unreachable => Self::StoreUnavailable,
            StoreOutage::Full => Self::StoreFull,
            StoreOutage::ReadOnly => Self::StoreReadOnly,
            StoreOutage::Loading => Self::StoreLoading,
            StoreOutage::AccessDenied => Self::StoreAccessDenied,
            StoreOutage::NotPersisting => Self::StoreNotPersisting,
            StoreOutage::Unconfirmed => Self::StoreUnconfirmed,
            StoreOutage::Misconfigured => Self::StoreMisconfigured,
        }
    }

    /// Returns the code as it is serialized.
    #[must_use]
    pub fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
    }
}
