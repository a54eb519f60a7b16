//! The error of a model call, the same for all providers.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use k8sops_core::TokenUsage;

/// What went wrong in a model call, and with it what helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelErrorKind {
    /// The provider limits the rate of requests (429), or is overloaded and names a time to retry (5xx with
    /// `Retry-After`).
    RateLimited,
    /// The provider is overloaded or failed internally (5xx, 529).
    Overloaded,
    /// The conversation exceeds the context window of the model or the request size of the provider (413).
    ContextTooLong,
    /// The account of the API key has no credit or quota left (402, or 429 and 400 with such a text).
    Quota,
    /// The provider does not have the model (404).
    ModelNotFound,
    /// The API key is missing, invalid or lacks a permission (401, 403).
    Auth,
    /// The provider rejects the request (400, 404, 422). Repeating it does not help.
    InvalidRequest,
    /// A filter of the provider refuses what the request contains.
    ContentFiltered,
    /// The server could not parse a tool call that the model wrote. Another sample may be right.
    MalformedToolCall,
    /// The model ended its reply without text and without calls. Another sample may have some.
    EmptyReply,
    /// The connection could not be made, or it broke.
    Network,
    /// The stream violates the provider's protocol, or ended before its reply was complete.
    MalformedStream,
    /// No response, or no further piece of it, arrived in time.
    Timeout,
}

impl ModelErrorKind {
    /// Returns the stable code in events and metrics.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::ContextTooLong => "context_too_long",
            Self::Quota => "quota_exhausted",
            Self::ModelNotFound => "model_not_found",
            Self::Auth => "auth",
            Self::InvalidRequest => "invalid_request",
            Self::ContentFiltered => "content_filter",
            Self::MalformedToolCall => "malformed_tool_call",
            Self::EmptyReply => "empty_reply",
            Self::Network => "network",
            Self::MalformedStream => "malformed_stream",
            Self::Timeout => "timeout",
        }
    }

    /// Returns whether the same request may succeed later.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        match self {
            Self::RateLimited
            | Self::Overloaded
            | Self::MalformedToolCall
            | Self::EmptyReply
            | Self::Network
            | Self::MalformedStream
            | Self::Timeout => true,
            Self::ContextTooLong
            | Self::Quota
            | Self::ModelNotFound
            | Self::Auth
            | Self::InvalidRequest
            | Self::ContentFiltered => false,
        }
    }
}

/// What a provider said of a failed call. A field is empty if there is no such answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProviderErrorDetails {
    /// The display name of the provider.
    pub provider: String,
    /// The model's id at the provider.
    pub model: String,
    /// The HTTP status, or the one that the type of an error within a stream stands for.
    pub status: Option<u16>,
    /// The provider's type and code of the error.
    pub code: Option<String>,
    /// The provider's text, without secrets.
    pub message: Option<String>,
    /// The time to wait that the provider asks for, in a header or in the body.
    pub retry_after: Option<Duration>,
    /// The context window that the provider names, in tokens of prompt and reply together.
    pub context_window: Option<u32>,
    /// The size of the prompt that the provider counted, in tokens.
    pub prompt_tokens: Option<u32>,
    /// The largest reply limit that the provider allows, in tokens.
    pub reply_limit: Option<u32>,
    /// The provider's id of the request, by which its support finds it.
    pub request_id: Option<String>,
    /// The tokens of the call, as far as the provider reported them before the call failed.
    pub usage: TokenUsage,
}

/// The reason why a model call failed.
///
/// Errors with the same fields are equal, whatever their causes. `Debug` does not show the cause, because its text is not
/// redacted.
#[derive(Clone)]
pub struct ModelError {
    /// What went wrong.
    pub kind: ModelErrorKind,
    /// What was attempted, what was found and what to do. It never contains a secret.
    pub message: String,
    /// What the provider said.
    pub details: Box<ProviderErrorDetails>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl ModelError {
    /// Creates an error without an answer of a provider.
    #[must_use]
    pub fn new(kind: ModelErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), details: Box::default(), source: None }
    }

    /// Adds the error that caused this one, its [`source`](Error::source).
    #[must_use]
    pub fn with_source(self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: Some(Arc::from(source.into())), ..self }
    }

    /// Adds what the provider said.
    #[must_use]
    pub fn with_details(self, details: ProviderErrorDetails) -> Self {
        Self { details: Box::new(details), ..self }
    }

    /// Adds the time to wait that the provider asks for.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.details.retry_after = retry_after;
        self
    }

    /// Adds tokens that the failed call used.
    #[must_use]
    pub fn with_usage(mut self, usage: TokenUsage) -> Self {
        self.details.usage += usage;
        self
    }

    /// Returns the stable code of this error in events and metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.kind.code()
    }

    /// Returns whether a server rejected what a request says, so that another form of the conversation or another server may
    /// help. A wrong URL, a redirect or a header that cannot be sent is left to the operator.
    #[must_use]
    pub fn is_rejected_request(&self) -> bool {
        let is_about_url = matches!(self.details.status, Some(300..400 | 404 | 405));
        self.kind == ModelErrorKind::InvalidRequest && self.details.message.is_some() && !is_about_url
    }

    /// Returns whether the same request may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind.is_retryable()
    }
}

impl PartialEq for ModelError {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.message == other.message && self.details == other.details
    }
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelError").field("kind", &self.kind).field("message", &self.message).finish_non_exhaustive()
    }
}

impl Error for ModelError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cause_is_the_source_and_hidden_from_debug() {
        let error = ModelError::new(ModelErrorKind::Network, "broke");
        let caused = error.clone().with_source(std::io::Error::other("unredacted"));
        assert_eq!(caused.to_string(), "broke");
        assert!(!format!("{caused:?}").contains("unredacted"));
        assert_eq!(caused.source().map(ToString::to_string).as_deref(), Some("unredacted"));
        assert_eq!(error, caused);
    }
}
