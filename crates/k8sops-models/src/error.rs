//! What can go wrong with a model call, the same for all providers.

use std::time::Duration;

/// Why a model call failed. The message says what was attempted, what was found and what to do; never a secret.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ModelError {
    /// The provider asks to slow down (429), or has too much to do and says until when (5xx with `Retry-After`).
    #[error("{message}")]
    RateLimited {
        /// How long it asks to wait, if it says.
        retry_after: Option<Duration>,
        /// The provider's words.
        message: String,
    },
    /// The provider has too much to do, or an error of its own (5xx, 529).
    #[error("{0}")]
    Overloaded(String),
    /// The conversation is longer than the model's window, or than the provider takes (413).
    #[error("{0}")]
    ContextTooLong(String),
    /// The account behind the key is empty, or has used up what it may (402, 429 or 400 with such a word).
    #[error("{0}")]
    Quota(String),
    /// The provider does not have the model (404).
    #[error("{0}")]
    ModelNotFound(String),
    /// The key is missing, wrong, or not allowed to (401, 403).
    #[error("{0}")]
    Auth(String),
    /// The provider does not take the request (400, 404, 422): sending it again does not help.
    #[error("{0}")]
    InvalidRequest(String),
    /// No connection, or it broke.
    #[error("{0}")]
    Network(String),
    /// The stream is not what the provider's protocol says, or ended without its end mark.
    #[error("{0}")]
    MalformedStream(String),
    /// No answer, or no further piece, in time.
    #[error("{0}")]
    Timeout(String),
}

impl ModelError {
    /// The stable word for this error in events and metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::RateLimited { .. } => "rate_limited",
            Self::Overloaded(_) => "overloaded",
            Self::ContextTooLong(_) => "context_too_long",
            Self::Quota(_) => "quota_exhausted",
            Self::ModelNotFound(_) => "model_not_found",
            Self::Auth(_) => "auth",
            Self::InvalidRequest(_) => "invalid_request",
            Self::Network(_) => "network",
            Self::MalformedStream(_) => "malformed_stream",
            Self::Timeout(_) => "timeout",
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::RateLimited { .. }
            | Self::Overloaded(_)
            | Self::Network(_)
            | Self::MalformedStream(_)
            | Self::Timeout(_) => true,
            Self::ContextTooLong(_)
            | Self::Quota(_)
            | Self::ModelNotFound(_)
            | Self::Auth(_)
            | Self::InvalidRequest(_) => false,
        }
    }
}
