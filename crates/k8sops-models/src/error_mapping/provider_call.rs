//! The context of a model call, from which the message of any of its errors is made.

use std::{error::Error, sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::error_body::ProviderErrorBody;
use crate::{ModelError, ModelErrorKind, error::ProviderErrorDetails};

/// The maximum number of characters that are quoted of a provider's text.
const MAX_QUOTE_CHARS: usize = 300;
/// The maximum number of characters of a provider's text that are kept to search them.
const MAX_SEARCHED_CHARS: usize = 4000;
/// Shorter keys are placeholders (`none`, `EMPTY`, `ollama`). Redacting them would only garble messages.
const MIN_SECRET_BYTES: usize = 8;

/// What error messages say about a provider, and what they must not contain.
#[derive(Debug)]
pub(crate) struct ProviderEndpoint {
    /// The display name.
    pub(crate) name: String,
    /// Host and port of the base URL. The rest of the URL is left out, because it may contain a password.
    pub(crate) host: String,
    pub(crate) key: Option<SecretString>,
    /// The values of configured headers, which are secrets, too.
    pub(crate) secrets: Vec<SecretString>,
    /// The environment variable of the API key.
    pub(crate) key_variable: String,
}

/// A call of a model. It lives as long as the reply stream, whose errors name the provider and the model.
#[derive(Debug, Clone)]
pub(crate) struct ProviderCall {
    pub(crate) endpoint: Arc<ProviderEndpoint>,
    pub(crate) model: String,
    /// The provider's id of the request, if its response has one.
    pub(crate) request_id: Option<String>,
    /// The server's own names of a wait, as pointers into an error.
    pub(crate) wait_fields: Vec<String>,
}

/// The headers in which providers and gateways name a request.
const REQUEST_ID_HEADERS: [&str; 7] = [
    "x-request-id",
    "request-id",
    "apim-request-id",
    "x-ms-request-id",
    "x-amzn-requestid",
    "x-generation-id",
    "cf-ray",
];
/// The longest id of a request that is kept.
const MAX_REQUEST_ID_BYTES: usize = 128;

impl ProviderCall {
    /// Returns the call with the id that the head of the response names.
    pub(crate) fn with_response_headers(&self, headers: &http::HeaderMap) -> Self {
        let ids = REQUEST_ID_HEADERS.iter().filter_map(|name| headers.get(*name)?.to_str().ok());
        let mut ids = ids.filter(|id| !id.is_empty() && id.len() <= MAX_REQUEST_ID_BYTES);
        Self { request_id: ids.next().map(|id| self.redact(id)), ..self.clone() }
    }

    /// Returns the error that arrived in a piece of the reply with these `data`.
    pub(crate) fn stream_error(&self, error: &Value, data: &str) -> ModelError {
        let event = serde_json::from_str(data).unwrap_or_default();
        self.rejection_error(&ProviderErrorBody::from_event(error, &event, &self.wait_fields))
    }

    /// Creates an error of this call.
    pub(crate) fn error(&self, kind: ModelErrorKind, message: impl Into<String>) -> ModelError {
        ModelError::new(kind, message).with_details(self.error_details())
    }

    /// Returns what is known of the call without an answer of the provider.
    pub(crate) fn error_details(&self) -> ProviderErrorDetails {
        ProviderErrorDetails {
            provider: self.endpoint.name.clone(),
            model: self.model.clone(),
            request_id: self.request_id.clone(),
            ..ProviderErrorDetails::default()
        }
    }

    /// Returns the error for a request without a response.
    pub(crate) fn connection_error(&self, error: reqwest::Error, connect_timeout: Duration) -> ModelError {
        let provider = self.provider_label();
        let is_connect = error.is_connect();
        let is_timeout = error.is_timeout();
        // The URL may contain a password.
        let error = error.without_url();
        let cause = self.redact(&innermost_cause(&error));
        let message = if is_connect && is_timeout {
            format!(
                "Could not connect to {provider} within {}. Check the base URL, the network and the proxy settings.",
                format_seconds(connect_timeout)
            )
        } else if is_connect {
            format!(
                "Could not connect to {provider}: {cause}. Check that the server is running and that the base URL is \
                 correct."
            )
        } else {
            format!("The connection to {provider} broke before a response arrived: {cause}. Try again.")
        };
        self.error(ModelErrorKind::Network, message).with_source(error)
    }

    /// Returns the error for a connection that broke in the middle of the reply.
    pub(crate) fn broken_connection_error(&self, error: Box<dyn Error + Send + Sync>) -> ModelError {
        let cause = self.redact(&innermost_cause(&*error));
        let provider = self.provider_label();
        let message = format!("The connection to {provider} broke in the middle of the reply: {cause}. Try again.");
        self.error(ModelErrorKind::Network, message).with_source(error)
    }

    /// Returns the error for a stream that violates the protocol.
    pub(crate) fn malformed_error(&self, found: &str) -> ModelError {
        self.error(ModelErrorKind::MalformedStream, self.malformed_message(found))
    }

    /// Returns the error for a part of the stream that is not the expected JSON.
    pub(crate) fn unparsable_error(&self, part: &str, error: serde_json::Error, data: &str) -> ModelError {
        let message = self.malformed_message(&format!("{part} cannot be parsed ({error}): {data}"));
        let malformed = self.error(ModelErrorKind::MalformedStream, message);
        // The text of a data error quotes values of the provider, which are redacted only in the message.
        if error.is_data() { malformed } else { malformed.with_source(error) }
    }

    fn malformed_message(&self, found: &str) -> String {
        let found = self.redact(found);
        format!("The reply of `{}` at {} is malformed: {found}.", self.model, self.provider_label())
    }

    /// Returns the error for a stream that ended without its end mark.
    pub(crate) fn unfinished_error(&self) -> ModelError {
        self.malformed_error("the stream ended before the reply was complete")
    }

    /// Returns the error for a reply that its server ended with the word for a failure.
    pub(crate) fn broken_reply_error(&self, reason: &str) -> ModelError {
        self.malformed_error(&format!("the server ended it with `{reason}` before it was complete"))
    }

    /// Returns the error for a successful response that is neither a stream nor a reply.
    pub(crate) fn no_stream_error(&self) -> ModelError {
        let message = format!(
            "{} did not respond with a stream of events. Check that the base URL is that of a model server which \
             supports streaming.",
            self.provider_label()
        );
        self.error(ModelErrorKind::InvalidRequest, message)
    }

    /// Returns the error for a server that sent nothing for the read timeout.
    pub(crate) fn read_timeout_error(&self, read_timeout: Duration) -> ModelError {
        self.error(
            ModelErrorKind::Timeout,
            format!(
                "{} sent nothing for {} while `{}` should reply. Try again, or increase the read timeout.",
                self.provider_label(),
                format_seconds(read_timeout),
                self.model
            ),
        )
    }

    /// Returns the error for a server that keeps the connection alive without sending content.
    pub(crate) fn stall_error(&self, limit: Duration) -> ModelError {
        self.error(ModelErrorKind::Timeout, format!(
            "{} kept the connection alive for {} without any content of the reply of `{}`. Try again, or increase the \
             read timeout.",
            self.provider_label(),
            format_seconds(limit),
            self.model
        ))
    }

    /// Returns the name and the host of the provider.
    pub(crate) fn provider_label(&self) -> String {
        format!("{} ({})", self.endpoint.name, self.endpoint.host)
    }

    /// Prepares a foreign text for a message: without secrets, on one line, truncated, without a period at its end.
    pub(crate) fn redact(&self, text: &str) -> String {
        self.redact_to(text, MAX_QUOTE_CHARS)
    }

    /// Prepares a foreign text for programs that search it.
    pub(crate) fn redact_long(&self, text: &str) -> String {
        self.redact_to(text, MAX_SEARCHED_CHARS)
    }

    fn redact_to(&self, text: &str, max_chars: usize) -> String {
        let secrets = self.endpoint.key.iter().chain(&self.endpoint.secrets).map(ExposeSecret::expose_secret);
        let secrets = secrets.filter(|secret| secret.len() >= MIN_SECRET_BYTES);
        let text = secrets.fold(text.to_owned(), |text, secret| text.replace(secret, "***"));
        let line = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
        let line = line.collect::<Vec<_>>().join(" ");
        let line = line.trim_end_matches('.');
        match line.char_indices().nth(max_chars) {
            _ if line.is_empty() => "no reason given".to_owned(),
            Some((end, _)) => format!("{} …", &line[..end]),
            None => line.to_owned(),
        }
    }
}

impl ProviderEndpoint {
    /// Returns how messages refer to the API key.
    pub(crate) fn describe_key(&self) -> String {
        if self.key_variable.is_empty() {
            "the API key".to_owned()
        } else {
            format!("the API key in {}", self.key_variable)
        }
    }

    /// Returns what to do if the API key is missing or invalid.
    pub(crate) fn key_instruction(&self) -> String {
        if self.key_variable.is_empty() {
            format!("Set the API key of {} in the configuration", self.name)
        } else {
            format!("Set {} to a valid API key", self.key_variable)
        }
    }
}

/// Returns the text of the innermost cause. The outer layers of a transport error only say that something failed.
pub(crate) fn innermost_cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

pub(crate) fn format_seconds(time: Duration) -> String {
    if time.subsec_millis() == 0 { format!("{} s", time.as_secs()) } else { format!("{:.1} s", time.as_secs_f64()) }
}
