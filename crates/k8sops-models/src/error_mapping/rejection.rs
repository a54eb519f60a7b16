//! Maps the error that a provider reports to a [`ModelError`].

use std::time::Duration;

use super::{
    error_body::ProviderErrorBody,
    provider_call::{ProviderCall, format_seconds},
    token_limits::{NamedTokenLimits, find_token_limits},
};
use crate::{ModelError, ModelErrorKind, error::ProviderErrorDetails};

/// Texts by which providers say that a conversation is too long.
const CONTEXT_TOO_LONG: [&str; 21] = [
    "context length",
    "context_length",
    "context size",
    "context window",
    "context limit",
    "context overflow",
    "exceed_context",
    "exceeds the context",
    "maximum context",
    "prompt is too long",
    "prompt too long",
    "input is too long",
    "input too long",
    "too many input tokens",
    "input token count",
    "input tokens exceed",
    "too large for model with",
    "maximum prompt length",
    "max_total_tokens",
    "reduce the length of the",
    "`max_new_tokens` must be",
];

/// A request of more tokens than a minute allows, which is rejected at any time.
const TOO_LARGE_FOR_RATE: &str = "request too large";

/// Texts by which providers say that an account has no credit left, so that waiting does not help.
const QUOTA_EXHAUSTED: [&str; 17] = [
    "insufficient_quota",
    "insufficient balance",
    "insufficient credits",
    "insufficient funds",
    "not enough credits",
    "exceeded your current quota",
    "credit balance is too low",
    "billing_error",
    "billing_hard_limit",
    "billing_not_active",
    "payment required",
    "out of credits",
    "out of call volume quota",
    "any credits",
    "quota is not enough",
    "budget_exceeded",
    "budget has been exceeded",
];

/// Texts by which a filter of the provider refuses what a request contains.
const CONTENT_FILTERED: [&str; 28] = [
    "content_filter",
    "content filter",
    "content filtering",
    "content management policy",
    "responsibleaipolicyviolation",
    "violating our usage policy",
    "data_inspection_failed",
    "datainspectionfailed",
    "inappropriate content",
    "content exists risk",
    "sensitive_words",
    "prohibited_content",
    "prohibited content",
    "requires moderation",
    "flagged by moderation",
    "guardrail_intervened",
    "content policy violation",
    "content_policy_violation",
    "safety system",
    "safety policy",
    "content moderation",
    "sensitive content",
    "sensitivecontent",
    "sensitive information",
    "unsafe content",
    "considered high risk",
    "敏感内容",
    "违规内容",
];

/// Texts by which a server, or a gateway before it, calls the request invalid, with a status that blames the server.
const REJECTED_BY_UPSTREAM: [&str; 13] = [
    "badrequesterror",
    "invalid_request_error",
    "invalid_request_message_order",
    "validationexception",
    "invalid_argument",
    "jinja",
    "chat template",
    "prompt template",
    "roles must alternate",
    "raise_exception",
    // The template of a model failed: llama.cpp quotes it.
    "{%",
    "{{",
    "is not callable",
];

/// Texts about an invalid API key, with a status other than 401.
const INVALID_KEY: [&str; 3] = ["api key not valid", "invalid api key", "incorrect api key"];

/// Texts of a server that failed, with a status that blames the request.
const SERVER_FAILED: [&str; 6] = [
    "model has crashed",
    "cuda out of memory",
    "enginedeaderror",
    "model is loading",
    "is currently loading",
    "is still loading",
];

/// Texts about a feature that the model lacks. Gateways answer 404 then, because no model of theirs has it.
const UNSUPPORTED_FEATURE: [&str; 3] = ["support tool use", "support tools", "support function"];

/// Texts of a quota that is refilled soon, even if it is called exhausted.
const RATE_QUOTA: [&str; 8] =
    ["perminute", "per minute", "per-minute", "per min", "persecond", "per second", "tokens per", "requests per"];
/// Texts of a quota of a day, which is not worth a wait if none is named.
const DAILY_QUOTA: [&str; 3] = ["perday", "per day", "daily"];

/// Texts by which providers say that a model does not exist, with a status other than 404.
const UNKNOWN_MODEL: [&str; 8] = [
    "model_not_found",
    "model not found",
    "no such model",
    "invalid model",
    "unknown model",
    "model identifier is invalid",
    "model not exist",
    "model does not exist",
];

/// Texts by which servers say that the model wrote a call that they cannot parse, or of a tool that does not exist. The client
/// has no part in it.
const MALFORMED_TOOL_CALL: [&str; 11] = [
    "tool_use_failed",
    "failed_generation",
    "failed to call a function",
    "tool call validation failed",
    "error parsing tool call",
    "failed to parse tool call",
    "malformed_function_call",
    "malformed function call",
    "failed to parse input at pos",
    "failed to generate a valid tool",
    "unexpected tokens remaining in message header",
];

impl ProviderCall {
    /// Returns the error for what the provider reported.
    pub(crate) fn rejection_error(&self, body: &ProviderErrorBody) -> ModelError {
        let retry_after = body.retry_after;
        let searched = format!("{} {} {}", body.error_type, body.text, body.quota_ids).to_lowercase();
        let kind = rejection_kind(body, &searched);
        let message = self.rejection_message(kind, body);
        let NamedTokenLimits { window, prompt, reply } = find_token_limits(&searched);
        ModelError::new(kind, message).with_details(ProviderErrorDetails {
            status: Some(body.status),
            code: Some(&body.error_type).filter(|code| !code.is_empty()).map(|code| self.redact(code)),
            message: Some(self.redact_long(&body.text)),
            retry_after,
            context_window: window,
            prompt_tokens: prompt,
            reply_limit: reply,
            request_id: self.request_id.clone().or_else(|| body.request_id.as_deref().map(|id| self.redact(id))),
            ..self.error_details()
        })
    }

    fn rejection_message(&self, kind: ModelErrorKind, body: &ProviderErrorBody) -> String {
        let Self { endpoint, model, .. } = self;
        let ProviderErrorBody { status, retry_after, text, .. } = body;
        let provider = self.provider_label();
        let reason = self.redact(text);
        match kind {
            ModelErrorKind::Quota => format!(
                "{provider} rejected the request, because the account has no quota or credit left ({status}): {reason}. \
                 Check the plan and the credit of {}.",
                endpoint.describe_key()
            ),
            ModelErrorKind::Auth if endpoint.key.is_none() => {
                format!("{provider} requires an API key ({status}): {reason}. {}.", endpoint.key_instruction())
            }
            ModelErrorKind::Auth if *status == 401 => format!(
                "{provider} rejected {} (401): {reason}. {}.",
                endpoint.describe_key(),
                endpoint.key_instruction()
            ),
            ModelErrorKind::Auth => format!(
                "{provider} denied this call ({status}): {reason}. Check that {} may use the model `{model}`, or use \
                 another key.",
                endpoint.describe_key()
            ),
            ModelErrorKind::RateLimited if *status < 500 => {
                format!("{provider} limits the rate of requests ({status}): {reason}. {}", retry_hint(*retry_after))
            }
            ModelErrorKind::RateLimited => {
                format!("{provider} is overloaded ({status}): {reason}. {}", retry_hint(*retry_after))
            }
            ModelErrorKind::Timeout => format!("{provider} timed out ({status}): {reason}. Try again."),
            ModelErrorKind::MalformedToolCall => format!(
                "{provider} could not parse a tool call that `{model}` wrote ({status}): {reason}. Try again, or choose a \
                 model that is trained for tools."
            ),
            ModelErrorKind::ContextTooLong => format!(
                "The conversation is too long for `{model}` at {provider} ({status}): {reason}. Shorten it, or choose a \
                 model with a larger context window."
            ),
            ModelErrorKind::InvalidRequest if (300..400).contains(status) => format!(
                "{provider} redirects to another URL ({status}). Redirects are not followed, because the API key would be \
                 sent along. Set the base URL to the final location."
            ),
            ModelErrorKind::ModelNotFound => self.not_found_message(*status, &reason),
            ModelErrorKind::InvalidRequest if *status == 405 => self.not_found_message(*status, &reason),
            ModelErrorKind::ContentFiltered => format!(
                "A content filter of {provider} refuses what the request for `{model}` contains ({status}): {reason}. Word the \
                 message differently, or choose another model."
            ),
            ModelErrorKind::InvalidRequest if matches!(status, 501 | 505) => format!(
                "{provider} does not support this request for `{model}` ({status}): {reason}. Use another server or another \
                 model."
            ),
            ModelErrorKind::Overloaded => {
                format!("{provider} is overloaded or failed internally ({status}): {reason}. Try again in a moment.")
            }
            ModelErrorKind::InvalidRequest
            | ModelErrorKind::EmptyReply
            | ModelErrorKind::Network
            | ModelErrorKind::MalformedStream => format!(
                "{provider} rejected the request for `{model}` ({status}): {reason}. Check the model's settings."
            ),
        }
    }

    fn not_found_message(&self, status: u16, reason: &str) -> String {
        format!(
            "{} has no model `{}`, or no endpoint at this path ({status}): {reason}. Check the model id and the base URL.",
            self.provider_label(),
            self.model
        )
    }
}

/// Returns what went wrong. `searched` is all that the provider said, in lower case.
fn rejection_kind(body: &ProviderErrorBody, searched: &str) -> ModelErrorKind {
    let ProviderErrorBody { status, retry_after, error_type, .. } = body;
    let status = *status;
    let contains_any = |texts: &[&str]| texts.iter().any(|text| searched.contains(text));
    // For an account without credit, OpenAI responds with 429, Anthropic with 400, and others with 402.
    let names_quota = matches!(status, 400 | 403 | 429) && contains_any(&QUOTA_EXHAUSTED);
    // Gemini uses the same text for a quota per minute.
    let is_refilled = !error_type.contains("insufficient_quota")
        && (retry_after.is_some() || contains_any(&RATE_QUOTA) && !contains_any(&DAILY_QUOTA));
    let is_unparsed_call = matches!(status, 400 | 422 | 500) && contains_any(&MALFORMED_TOOL_CALL);
    match status {
        402 => ModelErrorKind::Quota,
        _ if names_quota && !is_refilled => ModelErrorKind::Quota,
        400 | 403 | 422 | 451 | 500 if contains_any(&CONTENT_FILTERED) => ModelErrorKind::ContentFiltered,
        400 if contains_any(&INVALID_KEY) => ModelErrorKind::Auth,
        400 if contains_any(&SERVER_FAILED) => ModelErrorKind::Overloaded,
        429 | 413 if contains_any(&[TOO_LARGE_FOR_RATE]) => ModelErrorKind::ContextTooLong,
        // 498: Groq has no capacity for requests of the cheaper tier.
        429 | 498 => ModelErrorKind::RateLimited,
        403 if names_quota => ModelErrorKind::RateLimited,
        401 | 403 => ModelErrorKind::Auth,
        408 | 504 => ModelErrorKind::Timeout,
        _ if is_unparsed_call => ModelErrorKind::MalformedToolCall,
        413 => ModelErrorKind::ContextTooLong,
        _ if contains_any(&CONTEXT_TOO_LONG) => ModelErrorKind::ContextTooLong,
        404 if contains_any(&UNSUPPORTED_FEATURE) => ModelErrorKind::InvalidRequest,
        404 => ModelErrorKind::ModelNotFound,
        400 | 422 if contains_any(&UNKNOWN_MODEL) => ModelErrorKind::ModelNotFound,
        424 | 500 | 502 | 503 if contains_any(&REJECTED_BY_UPSTREAM) => ModelErrorKind::InvalidRequest,
        // A server that names a time expects to serve the request then.
        500.. if retry_after.is_some() => ModelErrorKind::RateLimited,
        501 | 505 => ModelErrorKind::InvalidRequest,
        // Too early, a stale connection of a proxy, and a failure behind the server.
        409 | 424 | 425 | 499 | 500.. => ModelErrorKind::Overloaded,
        _ => ModelErrorKind::InvalidRequest,
    }
}

fn retry_hint(retry_after: Option<Duration>) -> String {
    match retry_after {
        Some(time) => format!("Try again after {}.", format_seconds(time)),
        None => "Try again in a moment.".to_owned(),
    }
}
