//! Parses the error bodies of providers.

use std::time::Duration;

use serde_json::Value;

/// The error that a provider reports.
#[derive(Debug, Default)]
pub(crate) struct ProviderErrorBody {
    /// The HTTP status, or the status that the error's type stands for.
    pub(crate) status: u16,
    /// The time to wait that the provider asks for.
    pub(crate) retry_after: Option<Duration>,
    /// The error's type and code.
    pub(crate) error_type: String,
    /// The error's text.
    pub(crate) text: String,
}

impl ProviderErrorBody {
    /// Parses the body of a response with an error status.
    pub(crate) fn from_body(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Self {
        let ErrorFields { error_type, text } = if let Ok(value) = serde_json::from_slice::<Value>(body) {
            read_error_fields(find_error_object(&value).unwrap_or(&value))
        } else {
            let text = String::from_utf8_lossy(body);
            let text = text.trim();
            let text = if text.starts_with('<') { "an HTML page" } else { text };
            ErrorFields { error_type: String::new(), text: text.to_owned() }
        };
        Self { status, retry_after, error_type, text }
    }

    /// Parses an error object that arrived in place of a piece of the reply.
    pub(crate) fn from_error(error: &Value) -> Self {
        let ErrorFields { error_type, text } = read_error_fields(error);
        let code = ["code", "status"].into_iter().find_map(|name| match error.get(name)? {
            Value::Number(code) => code.as_u64().and_then(|code| u16::try_from(code).ok()),
            Value::String(code) => code.parse().ok(),
            _ => None,
        });
        let status =
            code.filter(|code| (400..600).contains(code)).unwrap_or_else(|| status_for_error_type(&error_type));
        Self { status, retry_after: None, error_type, text }
    }
}

/// Returns the error object in a body. Gemini sends a list with one error.
pub(crate) fn find_error_object(body: &Value) -> Option<&Value> {
    let body = body.as_array().and_then(|list| list.first()).unwrap_or(body);
    match body.get("error") {
        Some(error) if !error.is_null() => Some(error),
        _ => ["message", "detail"].iter().any(|name| body.get(name).is_some()).then_some(body),
    }
}

struct ErrorFields {
    error_type: String,
    text: String,
}

/// Reads the type and the text of an error in any of the forms that servers send.
fn read_error_fields(error: &Value) -> ErrorFields {
    if let Value::String(text) = error {
        return ErrorFields { error_type: String::new(), text: text.clone() };
    }
    let field = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
    let error_type = format!("{} {}", field("type"), field("code")).trim().to_owned();
    let text = ["message", "detail", "error"].into_iter().find_map(|name| match error.get(name)? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    });
    let text = text.unwrap_or_else(|| error.to_string());
    // OpenAI's text does not always name the parameter that it is about.
    let parameter = Some(field("param")).filter(|name| !name.is_empty() && !text.contains(name));
    let text = match parameter {
        Some(name) => format!("{} ({name})", text.trim_end_matches('.')),
        None => text,
    };
    ErrorFields { error_type, text }
}

/// Returns the status that an error's type stands for. An unknown type counts as a failure of the provider.
fn status_for_error_type(error_type: &str) -> u16 {
    let error_type = error_type.to_ascii_lowercase();
    let has = |word: &str| error_type.contains(word);
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
