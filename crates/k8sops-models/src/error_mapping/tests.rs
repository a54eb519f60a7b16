//! Tests of the error mapping.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::*;
use crate::ModelError;

const KEY: &str = "sk-very-secret-key";
const HEADER: &str = "Basic b3BzOnNlY3JldA==";

pub(super) fn call() -> ProviderCall {
    let endpoint = ProviderEndpoint {
        name: "OpenAI".into(),
        host: "api.example.com".into(),
        key: Some(KEY.into()),
        secrets: vec![HEADER.into()],
        key_variable: "OPENAI_API_KEY".into(),
    };
    ProviderCall { endpoint: Arc::new(endpoint), model: "gpt-x".into(), request_id: None, wait_fields: Vec::new() }
}

fn rejection(status: u16, body: &Value) -> ModelError {
    call().rejection_error(&ProviderErrorBody::from_body(status, None, body.to_string().as_bytes(), &[]))
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
        (429, "rate_limited", "rate of requests"),
        (500, "overloaded", "Try again"),
        (501, "invalid_request", "another"),
        (503, "overloaded", "Try again"),
        (529, "overloaded", "Try again"),
        (498, "rate_limited", "rate of requests"),
        (424, "overloaded", "Try again"),
    ];
    for (status, code, says) in cases {
        let error = rejection(status, &body);
        assert_eq!(error.code(), code, "{status}");
        let message = error.to_string();
        assert!(message.contains(says) && message.contains("api.example.com"), "{status}: {message}");
    }
}

#[test]
fn failure_of_a_server_is_told_from_a_rejection() {
    let body = |text: &str| json!({"error": {"message": text}});
    assert_eq!(rejection(400, &body("Model is loading, please try again")).code(), "overloaded");
    assert_eq!(rejection(424, &body("BadRequestError: roles must alternate")).code(), "invalid_request");
}

#[test]
fn context_overflow_is_told_from_other_bad_requests() {
    for words in [
        "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens.",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "request (9000 tokens) exceeds the available context size (4096 tokens), try increasing it",
        "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
    ] {
        assert_eq!(rejection(400, &json!({"error": {"message": words}})).code(), "context_too_long", "{words}");
    }
    let coded = json!({"error": {"message": "no", "code": "context_length_exceeded"}});
    assert_eq!(rejection(400, &coded).code(), "context_too_long");
    let other = json!({"error": {"message": "max_tokens: 9 > 8, the maximum allowed number of output tokens"}});
    assert_eq!(rejection(400, &other).code(), "invalid_request");
}

#[test]
fn exhausted_quota_is_not_retryable() {
    let body = json!({"error": {"message": "quota", "type": "insufficient_quota", "code": "insufficient_quota"}});
    assert_eq!(rejection(429, &body).code(), "quota_exhausted");
    assert!(!rejection(429, &body).is_retryable());
    let words =
        json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "You exceeded your current quota."}});
    let soon = ProviderErrorBody::from_body(429, Some(Duration::from_secs(9)), words.to_string().as_bytes(), &[]);
    assert_eq!(call().rejection_error(&soon).code(), "rate_limited", "Gemini's quota per minute");
    let words = "Your credit balance is too low to access the Anthropic API.";
    let body = json!({"type": "error", "error": {"type": "invalid_request_error", "message": words}});
    assert_eq!(rejection(400, &body).code(), "quota_exhausted");
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
        ("", "no reason given"),
    ] {
        let message =
            call().rejection_error(&ProviderErrorBody::from_body(500, None, body.as_bytes(), &[])).to_string();
        assert!(message.contains(words), "{body}: {message}");
    }
    let long =
        call().rejection_error(&ProviderErrorBody::from_body(500, None, "é".repeat(5000).as_bytes(), &[])).to_string();
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
        assert_eq!(
            call().rejection_error(&ProviderErrorBody::from_event(&error, &serde_json::Value::Null, &[])).code(),
            code,
            "{error}"
        );
    }
}

#[test]
fn echoed_secrets_are_redacted() {
    let words = format!("Incorrect API key provided: {KEY}. You sent Bearer {KEY} and {HEADER}");
    let body = json!({"error": {"message": words}});
    for status in [307, 400, 401, 402, 403, 404, 408, 413, 429, 500, 501] {
        let error = rejection(status, &body);
        let said = format!("{error} {error:?}");
        assert!(!said.contains(KEY) && !said.contains(HEADER), "{error}");
    }
    for error in [call().broken_connection_error(words.clone().into()), call().malformed_error(&words)] {
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
    assert_eq!(parse_retry_after(&both), Some(Duration::from_secs(7)), "an invalid value is ignored");
    assert_eq!(parse_retry_after(&headers("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")), Some(Duration::ZERO));
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(30);
    let soon = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&soon).unwrap();
    let wait = parse_retry_after(&headers("retry-after", &soon)).unwrap();
    assert!(wait > Duration::from_secs(25) && wait <= Duration::from_secs(30), "{wait:?}");
    for nonsense in ["soon", "-1", "NaN", "1e300"] {
        assert_eq!(parse_retry_after(&headers("retry-after", nonsense)), None, "{nonsense}");
    }
}
