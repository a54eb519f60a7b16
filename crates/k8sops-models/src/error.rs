//! The errors of model calls, the same for all providers.

use std::{error::Error, fmt, sync::Arc, time::Duration};

/// The reason why a model call failed. The message says what was attempted, what was found and what to do. It never
/// contains a secret.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ModelError {
    /// The provider limits the rate of requests (429), or is overloaded and names a time to retry (5xx with
    /// `Retry-After`).
    #[error("{message}")]
    RateLimited {
        /// The time to wait that the provider asks for.
        retry_after: Option<Duration>,
        /// The full message, with the provider's own text.
        message: String,
    },
    /// The provider is overloaded or failed internally (5xx, 529).
    #[error("{0}")]
    Overloaded(String),
    /// The conversation exceeds the context window of the model or the request size of the provider (413).
    #[error("{0}")]
    ContextTooLong(String),
    /// The account of the API key has no credit or quota left (402, or 429 and 400 with such a text).
    #[error("{0}")]
    Quota(String),
    /// The provider does not have the model (404).
    #[error("{0}")]
    ModelNotFound(String),
    /// The API key is missing, invalid or lacks a permission (401, 403).
    #[error("{0}")]
    Auth(String),
    /// The provider rejects the request (400, 404, 422). Repeating it does not help.
    #[error(transparent)]
    InvalidRequest(ErrorDetail),
    /// The connection could not be made, or it broke.
    #[error(transparent)]
    Network(ErrorDetail),
    /// The stream violates the provider's protocol, or ended without its end mark.
    #[error(transparent)]
    MalformedStream(ErrorDetail),
    /// No response, or no further piece of it, arrived in time.
    #[error("{0}")]
    Timeout(String),
}

impl ModelError {
    /// Returns the stable code of this error in events and metrics.
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

    /// Returns whether the same request may succeed later.
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

/// An error message together with the error that caused it, which is the [`source`](Error::source).
///
/// Details with the same message are equal, whatever their causes. `Debug` shows the message only, because the text of a
/// cause is not redacted.
#[derive(Clone)]
pub struct ErrorDetail {
    message: String,
    cause: Option<Arc<dyn Error + Send + Sync>>,
}

impl ErrorDetail {
    pub(crate) fn with_cause(message: String, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { message, cause: Some(Arc::from(cause.into())) }
    }

    /// Returns the message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl From<String> for ErrorDetail {
    fn from(message: String) -> Self {
        Self { message, cause: None }
    }
}

impl From<&str> for ErrorDetail {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

impl PartialEq for ErrorDetail {
    fn eq(&self, other: &Self) -> bool {
        self.message == other.message
    }
}

impl fmt::Display for ErrorDetail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for ErrorDetail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.message, f)
    }
}

impl Error for ErrorDetail {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cause_is_the_source_and_hidden_from_debug() {
        let cause = std::io::Error::other("unredacted");
        let error = ModelError::Network(ErrorDetail::with_cause("broke".into(), cause));
        assert_eq!((error.to_string().as_str(), format!("{error:?}").as_str()), ("broke", r#"Network("broke")"#));
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("unredacted"));
        assert_eq!(error, ModelError::Network("broke".into()));
    }
}
