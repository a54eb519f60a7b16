//! Parses the error bodies of providers.

use std::time::Duration;

use serde_json::Value;

use super::retry_after::{find_wait_in_body, parse_delay};

/// The error that a provider reports.
#[derive(Debug, Default)]
pub(crate) struct ProviderErrorBody {
    /// The HTTP status, or the status that the error's type stands for.
    pub(crate) status: u16,
    /// The time to wait that the provider asks for.
    pub(crate) retry_after: Option<Duration>,
    /// The error's types and codes.
    pub(crate) error_type: String,
    /// The error's text.
    pub(crate) text: String,
    /// The provider's id of the request, if the body has one.
    pub(crate) request_id: Option<String>,
    /// Everything that a quota is named in, in lower case.
    pub(crate) quota_ids: String,
}

impl ProviderErrorBody {
    /// Parses the body of a response with an error status. `wait_fields` are the server's own names of a wait, as pointers into
    /// the error.
    pub(crate) fn from_body(status: u16, retry_after: Option<Duration>, body: &[u8], wait_fields: &[String]) -> Self {
        let parsed = if let Ok(value) = serde_json::from_slice::<Value>(body) {
            Self::from_fields(find_error_object(&value).unwrap_or(&value), &value, wait_fields)
        } else {
            let text = String::from_utf8_lossy(body);
            let text = text.trim();
            let text = if text.starts_with('<') { "an HTML page" } else { text };
            Self { text: text.to_owned(), retry_after: find_wait_in_body(&Value::Null, text), ..Self::default() }
        };
        // Gateways answer 400 or 500 to whatever their upstream reported, and name it in the type.
        let named = status_for_error_type(&parsed.error_type).filter(|named| matches!(named, 402 | 429 | 503 | 529));
        let status = if matches!(status, 400 | 424 | 500) { named.unwrap_or(status) } else { status };
        Self { status, retry_after: retry_after.or(parsed.retry_after), ..parsed }
    }

    /// Parses an error object that arrived in place of a piece of the reply. `event` is the whole piece.
    pub(crate) fn from_event(error: &Value, event: &Value, wait_fields: &[String]) -> Self {
        // The Responses API wraps a failed response.
        let parsed = Self::from_fields(error, event.get("response").unwrap_or(event), wait_fields);
        let code = ["code", "status", "status_code"].into_iter().find_map(|name| match error.get(name)? {
            Value::Number(code) => code.as_u64().and_then(|code| u16::try_from(code).ok()),
            Value::String(code) => code.parse().ok(),
            _ => None,
        });
        let status = code.filter(|code| (400..600).contains(code));
        let status = status.or_else(|| status_for_error_type(&parsed.error_type));
        // An unknown type counts as a failure of the provider, if its text does not name a limit.
        let status = status.unwrap_or_else(|| match parsed.text.to_ascii_lowercase() {
            text if text.contains("rate limit") || text.contains("too many requests") => 429,
            _ => 500,
        });
        Self { status, ..parsed }
    }

    /// Reads the fields of an error in any of the forms that servers send. `body` is what contains it.
    fn from_fields(error: &Value, body: &Value, wait_fields: &[String]) -> Self {
        let parsed = match error {
            Value::String(text) => {
                // The error is only a code if there is a text next to it.
                let message = body.get("message").and_then(Value::as_str).filter(|message| message != text);
                let (error_type, text) =
                    message.map_or((String::new(), text.clone()), |message| (text.clone(), message.to_owned()));
                Self { error_type, text, ..Self::default() }
            }
            error => Self::from_object(error),
        };
        let named = |value: &Value| wait_fields.iter().find_map(|pointer| parse_delay(value.pointer(pointer)?, 1.0));
        // Some gateways name the wait next to the error.
        let retry_after = named(error)
            .or_else(|| named(body))
            .or_else(|| find_wait_in_body(error, &parsed.text))
            .or_else(|| find_wait_in_body(body, ""));
        let request_id = find_request_id(error).or_else(|| find_request_id(body));
        Self { retry_after, request_id, ..parsed }
    }

    fn from_object(error: &Value) -> Self {
        let field = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
        let types = ["type", "code", "status", "__type"].map(field);
        let types: Vec<&str> =
            types.into_iter().filter(|text| !text.is_empty() && text.parse::<u16>().is_err()).collect();
        let error_type = types.join(" ");
        let text =
            ["message", "Message", "detail", "msg", "error_msg", "error"].into_iter().find_map(|name| {
                match error.get(name)? {
                    Value::Null => None,
                    Value::String(text) => Some(text.clone()),
                    other => Some(other.to_string()),
                }
            });
        let text = text.unwrap_or_else(|| error.to_string());
        // OpenAI's text does not always name the parameter that it is about.
        let parameter = Some(field("param")).filter(|name| !name.is_empty() && !text.contains(name));
        let text = match parameter {
            Some(name) => format!("{} ({name})", text.trim_end_matches('.')),
            None => text,
        };
        // OpenRouter quotes what its upstream said.
        let upstream = error.pointer("/metadata/raw").map(|raw| match raw {
            Value::String(raw) => raw.clone(),
            other => other.to_string(),
        });
        let text = match upstream.filter(|raw| !raw.is_empty()) {
            Some(raw) => format!("{}: {}", text.trim_end_matches('.'), upstream_text(&raw)),
            None => text,
        };
        let quota_ids = error.get("details").map(Value::to_string).unwrap_or_default().to_lowercase();
        Self { error_type, text, quota_ids, ..Self::default() }
    }
}

/// Returns the text of an error that is quoted within another.
fn upstream_text(raw: &str) -> String {
    let value: Option<Value> = serde_json::from_str(raw).ok();
    let text = value.as_ref().and_then(|value| {
        let error = find_error_object(value)?;
        Some(error.as_str().or_else(|| error.get("message")?.as_str())?.to_owned())
    });
    text.unwrap_or_else(|| raw.to_owned())
}

/// Returns the error object in a body. Gemini sends a list with one error.
pub(crate) fn find_error_object(body: &Value) -> Option<&Value> {
    let body = body.as_array().and_then(|list| list.first()).unwrap_or(body);
    if let Some(error) = body.get("error").filter(|error| !error.is_null()) {
        return Some(error);
    }
    if let Some(first) = body.get("errors").and_then(|errors| errors.as_array()?.first()) {
        return Some(first);
    }
    // FastAPI wraps what a handler raises.
    if let Some(error) = body.get("detail").filter(|detail| detail.is_object()) {
        return find_error_object(error).or(Some(error));
    }
    ["message", "Message", "detail", "msg", "error_msg"].iter().any(|name| body.get(name).is_some()).then_some(body)
}

fn find_request_id(body: &Value) -> Option<String> {
    ["/request_id", "/error/request_id", "/requestId", "/error/metadata/request_id"]
        .iter()
        .find_map(|pointer| Some(body.pointer(pointer)?.as_str()?.to_owned()))
}

/// Returns the status that an error's type stands for.
fn status_for_error_type(error_type: &str) -> Option<u16> {
    let error_type = error_type.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| error_type.contains(word));
    Some(if has(&["overloaded"]) {
        529
    } else if has(&["insufficient_quota", "billing", "payment_required", "insufficient_balance"]) {
        402
    } else if has(&[
        "rate_limit",
        "ratelimit",
        "too_many_requests",
        "too many requests",
        "throttl",
        "resource_exhausted",
    ]) {
        429
    } else if has(&["authentication", "api_key", "unauthorized", "unauthenticated"]) {
        401
    } else if has(&["permission", "forbidden"]) {
        403
    } else if has(&["not_found", "notfound"]) {
        404
    } else if has(&["too_large"]) {
        413
    } else if has(&[
        "invalid",
        "bad_request",
        "badrequest",
        "exceed_context",
        "validation",
        "unprocessable",
        "context_length",
    ]) {
        400
    } else if has(&["timeout", "deadline_exceeded"]) {
        408
    } else if has(&["unavailable", "not_ready", "notready"]) {
        503
    } else if has(&["server_error", "internal", "api_error"]) {
        500
    } else {
        return None;
    })
}
