//! Maps the error that a provider reports to a [`ModelError`].

use std::time::Duration;

use super::{
    error_body::ProviderErrorBody,
    provider_call::{ProviderCall, format_seconds},
};
use crate::ModelError;

/// Texts by which providers say that a conversation is too long.
const CONTEXT_TOO_LONG: [&str; 10] = [
    "context length",
    "context_length",
    "context size",
    "context window",
    "context limit",
    "exceed_context",
    "prompt is too long",
    "input is too long",
    "too many input tokens",
    "input token count",
];

/// Texts by which providers say that an account has no credit left, so that waiting does not help.
const QUOTA_EXHAUSTED: [&str; 8] = [
    "insufficient_quota",
    "insufficient balance",
    "exceeded your current quota",
    "credit balance is too low",
    "billing_error",
    "billing_hard_limit",
    "billing_not_active",
    "payment required",
];

/// Texts by which providers say that a model does not exist, with a status other than 404.
const UNKNOWN_MODEL: [&str; 4] = ["model_not_found", "model not found", "no such model", "invalid model"];

impl ProviderCall {
    /// Returns the error for what the provider reported. The provider's text follows `): `, where the detection of quirks
    /// looks for it.
    pub(crate) fn rejection_error(&self, body: &ProviderErrorBody) -> ModelError {
        let Self { endpoint, model } = self;
        let ProviderErrorBody { status, retry_after, error_type, text } = body;
        let provider = self.provider_label();
        let reason = self.redact(text);
        let searched = format!("{error_type} {text}").to_lowercase();
        let contains_any = |texts: &[&str]| texts.iter().any(|text| searched.contains(text));
        let is_too_long = *status == 413 || contains_any(&CONTEXT_TOO_LONG);
        // For an account without credit, OpenAI responds with 429, Anthropic with 400, and others with 402.
        let names_quota = matches!(*status, 400 | 403 | 429) && contains_any(&QUOTA_EXHAUSTED);
        // Gemini uses the same text for a quota per minute, and then names the time to wait.
        let is_refilled = retry_after.is_some()
            && !error_type.contains("insufficient_quota")
            && searched.contains("exceeded your current quota");
        let is_exhausted = *status == 402 || names_quota && !is_refilled;
        let is_unknown_model = *status == 404 || matches!(*status, 400 | 422) && contains_any(&UNKNOWN_MODEL);
        let not_found = || {
            format!(
                "{provider} has no model `{model}`, or no endpoint at this path ({status}): {reason}. Check the model id \
                 and the base URL."
            )
        };
        match *status {
            _ if is_exhausted => ModelError::Quota(format!(
                "{provider} rejected the request, because the account has no quota or credit left ({status}): {reason}. \
                 Check the plan and the credit of {}.",
                endpoint.describe_key()
            )),
            401 | 403 if endpoint.key.is_none() => ModelError::Auth(format!(
                "{provider} requires an API key ({status}): {reason}. {}.",
                endpoint.key_instruction()
            )),
            401 => ModelError::Auth(format!(
                "{provider} rejected {} (401): {reason}. {}.",
                endpoint.describe_key(),
                endpoint.key_instruction()
            )),
            403 => ModelError::Auth(format!(
                "{provider} denied this call (403): {reason}. Check that {} may use the model `{model}`, or use another \
                 key.",
                endpoint.describe_key()
            )),
            429 => ModelError::RateLimited {
                retry_after: *retry_after,
                message: format!("{provider} limits the rate of requests (429): {reason}. {}", retry_hint(*retry_after)),
            },
            408 => ModelError::Timeout(format!("{provider} timed out (408): {reason}. Try again.")),
            _ if is_too_long => ModelError::ContextTooLong(format!(
                "The conversation is too long for `{model}` at {provider} ({status}): {reason}. Shorten it, or choose a \
                 model with a larger context window."
            )),
            _ if is_unknown_model => ModelError::ModelNotFound(not_found()),
            405 => ModelError::InvalidRequest(not_found().into()),
            300..=399 => ModelError::InvalidRequest(
                format!(
                    "{provider} redirects to another URL ({status}). Redirects are not followed, because the API key \
                     would be sent along. Set the base URL to the final location."
                )
                .into(),
            ),
            // A server that names a time expects to serve the request then.
            500.. if retry_after.is_some() => ModelError::RateLimited {
                retry_after: *retry_after,
                message: format!("{provider} is overloaded ({status}): {reason}. {}", retry_hint(*retry_after)),
            },
            501 | 505 => ModelError::InvalidRequest(
                format!(
                    "{provider} does not support this request for `{model}` ({status}): {reason}. Use another server or \
                     another model."
                )
                .into(),
            ),
            500.. => ModelError::Overloaded(format!(
                "{provider} is overloaded or failed internally ({status}): {reason}. Try again in a moment."
            )),
            _ => ModelError::InvalidRequest(
                format!(
                    "{provider} rejected the request for `{model}` ({status}): {reason}. Check the model's settings."
                )
                .into(),
            ),
        }
    }
}

fn retry_hint(retry_after: Option<Duration>) -> String {
    match retry_after {
        Some(time) => format!("Try again after {}.", format_seconds(time)),
        None => "Try again in a moment.".to_owned(),
    }
}
