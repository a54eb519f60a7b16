//! Why an HTTP exchange failed, and whether the server may have handled the request.

use std::error::Error;

use rmcp::transport::{DynamicTransportError, streamable_http_client::StreamableHttpError};

use crate::server_text::quote_server_text;

type HttpError = StreamableHttpError<reqwest::Error>;

/// Why a request could not be sent, or why its answer could not be received.
///
/// The texts contain the innermost cause, but not the errors in between: those display the URL, which can contain a
/// credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    /// The request did not reach the server.
    #[error("{0}")]
    NotSent(String),
    /// The server, or a proxy in front of it, rejected the request.
    #[error("{0}")]
    Rejected(String),
    /// The server may have handled the request.
    #[error("{0}")]
    OutcomeUnknown(String),
}

impl SendError {
    /// Translates an error of a transport.
    pub(crate) fn from_transport_error(error: &DynamicTransportError) -> Self {
        let Some(error) = error.error.downcast_ref::<HttpError>() else {
            let cause = quote_server_text(&error.error.to_string());
            return Self::OutcomeUnknown(format!("connection lost: {cause}"));
        };
        match error {
            HttpError::Client(error) if error.is_connect() => {
                Self::NotSent(format!("connection failed: {}", root_cause(error)))
            }
            HttpError::Client(error) if error.is_builder() => {
                Self::NotSent(format!("cannot build the request: {}", root_cause(error)))
            }
            HttpError::Client(error) => Self::OutcomeUnknown(format!("connection lost: {}", root_cause(error))),
            HttpError::SessionExpired => {
                Self::NotSent("the server does not know the session any more (was it restarted?)".to_owned())
            }
            HttpError::ReservedHeaderConflict(name) => {
                Self::NotSent(format!("the HTTP header {name} is reserved by MCP and cannot be configured"))
            }
            HttpError::AuthRequired(_) => Self::Rejected("HTTP 401: the server requires other credentials".to_owned()),
            HttpError::InsufficientScope(_) => {
                Self::Rejected("HTTP 403: the credentials do not allow the request".to_owned())
            }
            HttpError::HttpStatus(status) if status.status == 429 => {
                Self::Rejected("HTTP 429: too many requests".to_owned())
            }
            HttpError::HttpStatus(status) => Self::OutcomeUnknown(format!("HTTP {}", status.status)),
            HttpError::UnexpectedServerResponse(text) if text.starts_with("HTTP 4") => {
                Self::Rejected(quote_server_text(text))
            }
            other => Self::OutcomeUnknown(quote_server_text(&other.to_string())),
        }
    }
}

/// Returns the text of the innermost cause; the outer ones display the URL.
pub(super) fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if cause.is::<reqwest::Error>() {
        return match error.status() {
            Some(status) => format!("HTTP {status}"),
            None if error.is_timeout() => "timeout".to_owned(),
            None => "the HTTP exchange failed".to_owned(),
        };
    }
    quote_server_text(&cause.to_string())
}
