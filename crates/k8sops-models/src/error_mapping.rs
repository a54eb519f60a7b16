//! From what a provider says about a failure to one [`ModelError`] that says what was attempted, what was found and what
//! to do. One mapping for both providers, for a status line and for an error in the middle of a stream.

use std::{error::Error as _, sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::ModelError;

/// The most characters that are quoted of what a provider said.
const QUOTE_CHARS: usize = 300;
/// A shorter key is a placeholder (`none`, `EMPTY`, `ollama`), and blotting it out would only garble messages.
const SECRET_BYTES: usize = 8;

/// Words by which the providers say that a conversation is too long.
const TOO_LONG: [&str; 10] = [
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

/// Words by which the providers say that the account has nothing left: waiting does not fill it.
const EXHAUSTED: [&str; 8] = [
    "insufficient_quota",
    "insufficient balance",
    "exceeded your current quota",
    "credit balance is too low",
    "billing_error",
    "billing_hard_limit",
    "billing_not_active",
    "payment required",
];

/// A provider as messages name it.
#[derive(Debug)]
pub(crate) struct ProviderEndpoint {
    /// Its name for people.
    pub(crate) name: String,
    /// Host and port of its base URL; never more of the URL, which may hold a password.
    pub(crate) host: String,
    pub(crate) key: Option<SecretString>,
    /// More of what must not be repeated: the values of configured headers.
    pub(crate) secrets: Vec<SecretString>,
    /// The environment variable that holds the key.
    pub(crate) key_variable: String,
}

/// One call: who is asked for what, so that an error can say it at any point of the stream.
#[derive(Debug, Clone)]
pub(crate) struct ProviderCall {
    pub(crate) endpoint: Arc<ProviderEndpoint>,
    pub(crate) model: String,
}

/// What a provider said about a failure.
#[derive(Debug, Default)]
pub(crate) struct ProviderErrorBody {
    /// The HTTP status, or the one that the error's type stands for.
    pub(crate) status: u16,
    /// How long it asks to wait.
    pub(crate) retry_after: Option<Duration>,
    /// The error's type and code.
    pub(crate) kind: String,
    /// The error's text.
    pub(crate) words: String,
}

impl ProviderErrorBody {
    /// From the body of an answer with an error status.
    pub(crate) fn from_body(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Self {
        let (kind, words) = if let Ok(value) = serde_json::from_slice::<Value>(body) {
            read_error_fields(find_error_object(&value).unwrap_or(&value))
        } else {
            let text = String::from_utf8_lossy(body);
            let text = text.trim();
            (String::new(), if text.starts_with('<') { "an HTML page".to_owned() } else { text.to_owned() })
        };
        Self { status, retry_after, kind, words }
    }

    /// From an error object where a piece of the reply should be.
    pub(crate) fn from_error(error: &Value) -> Self {
        let (kind, words) = read_error_fields(error);
        let code = ["code", "status"].into_iter().find_map(|name| match error.get(name)? {
            Value::Number(code) => code.as_u64().and_then(|code| u16::try_from(code).ok()),
            Value::String(code) => code.parse().ok(),
            _ => None,
        });
        let status = code.filter(|code| (400..600).contains(code)).unwrap_or_else(|| status_for_error_type(&kind));
        Self { status, retry_after: None, kind, words }
    }
}

/// The error in a body that tells of one; Gemini puts it into a list.
pub(crate) fn find_error_object(body: &Value) -> Option<&Value> {
    let body = body.as_array().and_then(|list| list.first()).unwrap_or(body);
    match body.get("error") {
        Some(error) if !error.is_null() => Some(error),
        _ => ["message", "detail"].iter().any(|name| body.get(name).is_some()).then_some(body),
    }
}

/// The type and the text of an error in one of the forms that are about.
fn read_error_fields(error: &Value) -> (String, String) {
    if let Value::String(words) = error {
        return (String::new(), words.clone());
    }
    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
    let kind = format!("{} {}", text("type"), text("code")).trim().to_owned();
    let words = ["message", "detail", "error"].into_iter().find_map(|name| match error.get(name)? {
        Value::Null => None,
        Value::String(words) => Some(words.clone()),
        other => Some(other.to_string()),
    });
    let words = words.unwrap_or_else(|| error.to_string());
    // OpenAI's text does not always name the parameter that it is about.
    let parameter = Some(text("param")).filter(|name| !name.is_empty() && !words.contains(name));
    let words = match parameter {
        Some(name) => format!("{} ({name})", words.trim_end_matches('.')),
        None => words,
    };
    (kind, words)
}

/// The status that an error's type stands for; what is not known is taken for a fault of the provider.
fn status_for_error_type(kind: &str) -> u16 {
    let kind = kind.to_ascii_lowercase();
    let has = |word: &str| kind.contains(word);
    if has("overloaded") {
        529
    } else if has("insufficient_quota") || has("billing") {
        402
    } else if has("rate_limit") || has("too_many_requests") {
        429
    } else if has("authentication") || has("api_key") || has("unauthorized") {
        401
    } else if has("permission") || has("forbidden") {
        403
    } else if has("not_found") {
        404
    } else if has("too_large") {
        413
    } else if has("invalid") || has("bad_request") || has("badrequest") || has("exceed_context") {
        400
    } else if has("timeout") {
        408
    } else {
        500
    }
}

impl ProviderCall {
    /// The error for what the provider said.
    pub(crate) fn rejection_error(&self, complaint: &ProviderErrorBody) -> ModelError {
        let Self { endpoint, model } = self;
        let ProviderErrorBody { status, retry_after, kind, .. } = complaint;
        let who = self.provider_label();
        let words = self.redact(&complaint.words);
        let lower = format!("{kind} {}", complaint.words).to_lowercase();
        let too_long = *status == 413 || TOO_LONG.iter().any(|word| lower.contains(word));
        // An empty account answers 429 at OpenAI, 400 at Anthropic, 402 elsewhere.
        let said = matches!(*status, 400 | 403 | 429) && EXHAUSTED.iter().any(|word| lower.contains(word));
        // Gemini says the same of what fills again in a minute, and then says when.
        let fills_again = retry_after.is_some()
            && !kind.contains("insufficient_quota")
            && lower.contains("exceeded your current quota");
        let exhausted = *status == 402 || said && !fills_again;
        let unknown_model = *status == 404
            || matches!(*status, 400 | 422)
                && ["model_not_found", "model not found", "no such model", "invalid model"]
                    .iter()
                    .any(|w| lower.contains(w));
        match *status {
            _ if exhausted => ModelError::Quota(format!(
                "{who} does not serve this account ({status}): {words}. Check the plan and the credit behind {}.",
                endpoint.describe_key()
            )),
            401 | 403 if endpoint.key.is_none() => {
                ModelError::Auth(format!("{who} wants a key ({status}): {words}. {}.", endpoint.key_instruction()))
            }
            401 => ModelError::Auth(format!(
                "{who} does not accept {} (401): {words}. {}.",
                endpoint.describe_key(),
                endpoint.key_instruction()
            )),
            403 => ModelError::Auth(format!(
                "{who} does not allow this call (403): {words}. Check that {} may use the model `{model}`, or use another \
                 key.",
                endpoint.describe_key()
            )),
            429 => ModelError::RateLimited {
                retry_after: *retry_after,
                message: format!("{who} asks to slow down (429): {words}. {}", describe_wait(*retry_after)),
            },
            408 => ModelError::Timeout(format!("{who} gave up waiting (408): {words}. Try again.")),
            _ if too_long => ModelError::ContextTooLong(format!(
                "The conversation is too long for `{model}` at {who} ({status}): {words}. Shorten it, or choose a model \
                 with a larger context window."
            )),
            _ if unknown_model => ModelError::ModelNotFound(format!(
                "{who} does not know the model `{model}`, or nothing is at this path ({status}): {words}. Check the \
                 model's id and the base URL."
            )),
            405 => ModelError::InvalidRequest(format!(
                "{who} does not know the model `{model}`, or nothing is at this path ({status}): {words}. Check the \
                 model's id and the base URL."
            )),
            300..=399 => ModelError::InvalidRequest(format!(
                "{who} redirects elsewhere ({status}); that is not followed, because the key would go along. Set the base \
                 URL to where the provider really is."
            )),
            // A server that names a time has said that it will serve the request then.
            500.. if retry_after.is_some() => ModelError::RateLimited {
                retry_after: *retry_after,
                message: format!("{who} is overloaded ({status}): {words}. {}", describe_wait(*retry_after)),
            },
            501 | 505 => ModelError::InvalidRequest(format!(
                "{who} cannot do what was asked of `{model}` ({status}): {words}. Use another server or another model."
            )),
            500.. => ModelError::Overloaded(format!(
                "{who} is overloaded or has a fault of its own ({status}): {words}. Try again in a moment."
            )),
            _ => ModelError::InvalidRequest(format!(
                "{who} did not take the request for `{model}` ({status}): {words}. Check the model's settings."
            )),
        }
    }

    /// The error for a request that got no answer.
    pub(crate) fn connection_error(&self, error: reqwest::Error, connect_timeout: Duration) -> ModelError {
        let who = self.provider_label();
        if error.is_connect() && error.is_timeout() {
            return ModelError::Network(format!(
                "No connection to {who} within {}. Check the base URL, the network and the proxy settings.",
                format_seconds(connect_timeout)
            ));
        }
        let connect = error.is_connect();
        let cause = self.redact(&innermost_cause(error));
        ModelError::Network(if connect {
            format!("No connection to {who}: {cause}. Check that the server is running and that the base URL is right.")
        } else {
            format!("The connection to {who} broke before an answer came: {cause}. Try again.")
        })
    }

    /// The error for a connection that broke in the middle of the reply.
    pub(crate) fn broken_connection_error(&self, cause: &str) -> ModelError {
        let cause = self.redact(cause);
        ModelError::Network(format!(
            "The connection to {} broke in the middle of the reply: {cause}. Try again.",
            self.provider_label()
        ))
    }

    /// The error for a stream that is not what the protocol says.
    pub(crate) fn malformed_error(&self, found: &str) -> ModelError {
        let found = self.redact(found);
        ModelError::MalformedStream(format!(
            "The reply of `{}` at {} is damaged: {found}.",
            self.model,
            self.provider_label()
        ))
    }

    /// The error for a stream that ended without its end mark.
    pub(crate) fn unfinished_error(&self) -> ModelError {
        self.malformed_error("the stream ended before the reply was complete")
    }

    /// The error for a server that has gone silent.
    pub(crate) fn read_timeout_error(&self, gap: Duration) -> ModelError {
        ModelError::Timeout(format!(
            "Nothing came from {} for {} while waiting for `{}`. Try again, or allow a longer read timeout.",
            self.provider_label(),
            format_seconds(gap),
            self.model
        ))
    }

    /// The error for a server that is alive and writes nothing.
    pub(crate) fn stall_error(&self, limit: Duration) -> ModelError {
        ModelError::Timeout(format!(
            "{} kept the connection alive for {} without a piece of the reply of `{}`. Try again, or allow a longer read \
             timeout.",
            self.provider_label(),
            format_seconds(limit),
            self.model
        ))
    }

    /// The provider and where it is.
    pub(crate) fn provider_label(&self) -> String {
        format!("{} ({})", self.endpoint.name, self.endpoint.host)
    }

    /// Foreign words for a message: without the key, on one line, of bounded length, without a full stop.
    pub(crate) fn redact(&self, words: &str) -> String {
        let secrets = self.endpoint.key.iter().chain(&self.endpoint.secrets).map(ExposeSecret::expose_secret);
        let secrets = secrets.filter(|secret| secret.len() >= SECRET_BYTES);
        let words = secrets.fold(words.to_owned(), |words, secret| words.replace(secret, "***"));
        let line = words.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
        let line = line.collect::<Vec<_>>().join(" ");
        let line = line.trim_end_matches('.');
        match line.char_indices().nth(QUOTE_CHARS) {
            _ if line.is_empty() => "it gave no reason".to_owned(),
            Some((end, _)) => format!("{} …", &line[..end]),
            None => line.to_owned(),
        }
    }
}

impl ProviderEndpoint {
    /// The key, as a message may name it.
    fn describe_key(&self) -> String {
        if self.key_variable.is_empty() { "the key".to_owned() } else { format!("the key in {}", self.key_variable) }
    }

    /// What to do for want of a key.
    pub(crate) fn key_instruction(&self) -> String {
        if self.key_variable.is_empty() {
            format!("Set the key of {} in the configuration", self.name)
        } else {
            format!("Set {} to a valid key", self.key_variable)
        }
    }
}

/// The innermost causes of a transport error; never its URL.
pub(crate) fn innermost_cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // The outer layers only say that something failed.
        words = cause.to_string();
        source = cause.source();
    }
    words
}

fn describe_wait(retry_after: Option<Duration>) -> String {
    match retry_after {
        Some(time) => format!("It asks to wait {}.", format_seconds(time)),
        None => "Try again in a moment.".to_owned(),
    }
}

fn format_seconds(time: Duration) -> String {
    if time.subsec_millis() == 0 { format!("{} s", time.as_secs()) } else { format!("{:.1} s", time.as_secs_f64()) }
}

/// What the headers of an answer ask to wait: seconds, an HTTP date, or OpenAI's milliseconds.
pub(crate) fn parse_retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let ms = text("retry-after-ms").and_then(|v| v.parse::<f64>().ok());
    if let Some(time) = ms.and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok()) {
        return Some(time);
    }
    let value = text("retry-after")?;
    if let Ok(secs) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(secs).ok();
    }
    let at = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    // A date that is past asks for no wait at all.
    Some(at.duration_since(jiff::Timestamp::now()).try_into().unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KEY: &str = "sk-very-secret-key";
    const HEADER: &str = "Basic b3BzOnNlY3JldA==";

    fn call() -> ProviderCall {
        let endpoint = ProviderEndpoint {
            name: "OpenAI".into(),
            host: "api.example.com".into(),
            key: Some(KEY.into()),
            secrets: vec![HEADER.into()],
            key_variable: "OPENAI_API_KEY".into(),
        };
        ProviderCall { endpoint: Arc::new(endpoint), model: "gpt-x".into() }
    }

    fn refused(status: u16, body: &Value) -> ModelError {
        call().rejection_error(&ProviderErrorBody::from_body(status, None, body.to_string().as_bytes()))
    }

    #[test]
    fn each_status_maps_to_error_with_remedy() {
        let body = json!({"error": {"message": "no.", "type": "t", "code": null}});
        let cases = [
            (401, "auth", "Set OPENAI_API_KEY"),
            (403, "auth", "`gpt-x`"),
            (402, "quota_exhausted", "credit"),
            (404, "model_not_found", "`gpt-x`"),
            (400, "invalid_request", "(400): no."),
            (422, "invalid_request", "(422)"),
            (307, "invalid_request", "base URL"),
            (413, "context_too_long", "larger context window"),
            (408, "timeout", "Try again"),
            (429, "rate_limited", "slow down"),
            (500, "overloaded", "Try again"),
            (501, "invalid_request", "another"),
            (503, "overloaded", "Try again"),
            (529, "overloaded", "Try again"),
        ];
        for (status, code, says) in cases {
            let error = refused(status, &body);
            assert_eq!(error.code(), code, "{status}");
            let message = error.to_string();
            assert!(message.contains(says) && message.contains("api.example.com"), "{status}: {message}");
        }
    }

    #[test]
    fn context_overflow_is_told_from_other_bad_requests() {
        for words in [
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens.",
            "prompt is too long: 210000 tokens > 200000 maximum",
            "request (9000 tokens) exceeds the available context size (4096 tokens), try increasing it",
            "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
        ] {
            assert_eq!(refused(400, &json!({"error": {"message": words}})).code(), "context_too_long", "{words}");
        }
        let coded = json!({"error": {"message": "no", "code": "context_length_exceeded"}});
        assert_eq!(refused(400, &coded).code(), "context_too_long");
        let other = json!({"error": {"message": "max_tokens: 9 > 8, the maximum allowed number of output tokens"}});
        assert_eq!(refused(400, &other).code(), "invalid_request");
    }

    #[test]
    fn exhausted_quota_is_not_retryable() {
        let body = json!({"error": {"message": "quota", "type": "insufficient_quota", "code": "insufficient_quota"}});
        assert_eq!(refused(429, &body).code(), "quota_exhausted");
        assert!(!refused(429, &body).is_retryable());
        let words = json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "You exceeded your current quota."}});
        let soon = ProviderErrorBody::from_body(429, Some(Duration::from_secs(9)), words.to_string().as_bytes());
        assert_eq!(call().rejection_error(&soon).code(), "rate_limited", "Gemini says so of a minute's quota, too");
        let words = "Your credit balance is too low to access the AnthropicModel API.";
        let body = json!({"type": "error", "error": {"type": "invalid_request_error", "message": words}});
        assert_eq!(refused(400, &body).code(), "quota_exhausted");
    }

    #[test]
    fn all_error_body_forms_are_parsed() {
        for (body, words) in [
            (r#"{"error":"plain"}"#, "plain"),
            (r#"{"message":"top"}"#, "top"),
            (r#"[{"error":{"code":400,"message":"in a list"}}]"#, ": in a list"),
            (r#"{"error":{"message":"Bad value.","param":"reasoning.effort"}}"#, "Bad value (reasoning.effort)"),
            (r#"{"detail":[{"msg":"field required"}]}"#, "field required"),
            (r#"{"type":"error","error":{"type":"api_error","message":"inner"}}"#, "inner"),
            ("<html>gateway</html>", "an HTML page"),
            ("just\n text", "just text"),
            ("", "it gave no reason"),
        ] {
            let message = call().rejection_error(&ProviderErrorBody::from_body(500, None, body.as_bytes())).to_string();
            assert!(message.contains(words), "{body}: {message}");
        }
        let long =
            call().rejection_error(&ProviderErrorBody::from_body(500, None, "é".repeat(5000).as_bytes())).to_string();
        assert!(long.chars().count() < 500);
    }

    #[test]
    fn stream_error_is_mapped_by_type_or_code() {
        for (error, code) in [
            (json!({"type": "overloaded_error", "message": "m"}), "overloaded"),
            (json!({"type": "rate_limit_error", "message": "m"}), "rate_limited"),
            (json!({"type": "authentication_error", "message": "m"}), "auth"),
            (json!({"type": "invalid_request_error", "message": "m"}), "invalid_request"),
            (json!({"type": "invalid_request_error", "message": "prompt is too long"}), "context_too_long"),
            (json!({"code": 429, "message": "m"}), "rate_limited"),
            (json!({"code": "502", "message": "m"}), "overloaded"),
            (json!({"message": "who knows"}), "overloaded"),
            (json!("words"), "overloaded"),
        ] {
            assert_eq!(call().rejection_error(&ProviderErrorBody::from_error(&error)).code(), code, "{error}");
        }
    }

    #[test]
    fn echoed_secrets_are_redacted() {
        let words = format!("Incorrect API key provided: {KEY}. You sent Bearer {KEY} and {HEADER}");
        let body = json!({"error": {"message": words}});
        for status in [307, 400, 401, 402, 403, 404, 408, 413, 429, 500, 501] {
            let error = refused(status, &body);
            let said = format!("{error} {error:?}");
            assert!(!said.contains(KEY) && !said.contains(HEADER), "{error}");
        }
        for error in [call().broken_connection_error(&words), call().malformed_error(&words)] {
            assert!(!error.to_string().contains(KEY), "{error}");
        }
        assert!(!format!("{:?}", call()).contains(KEY));
    }

    #[test]
    fn retry_after_accepts_seconds_date_and_milliseconds() {
        let headers = |name: &'static str, value: &str| {
            http::HeaderMap::from_iter([(http::HeaderName::from_static(name), value.parse().unwrap())])
        };
        assert_eq!(parse_retry_after(&headers("retry-after", "7")), Some(Duration::from_secs(7)));
        assert_eq!(parse_retry_after(&headers("retry-after-ms", "1500")), Some(Duration::from_millis(1500)));
        let mut both = headers("retry-after-ms", "-1");
        both.extend(headers("retry-after", "7"));
        assert_eq!(parse_retry_after(&both), Some(Duration::from_secs(7)), "what cannot be is not what was meant");
        assert_eq!(parse_retry_after(&headers("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")), Some(Duration::ZERO));
        let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(30);
        let soon = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&soon).unwrap();
        let wait = parse_retry_after(&headers("retry-after", &soon)).unwrap();
        assert!(wait > Duration::from_secs(25) && wait <= Duration::from_secs(30), "{wait:?}");
        for nonsense in ["soon", "-1", "NaN", "1e300"] {
            assert_eq!(parse_retry_after(&headers("retry-after", nonsense)), None, "{nonsense}");
        }
    }
}
