//! The time after which a provider wants a request to be repeated.

use std::{sync::LazyLock, time::Duration};

use regex::Regex;
use serde_json::Value;

/// Returns the time to wait that the response headers ask for: seconds, an HTTP date, or OpenAI's milliseconds.
pub(crate) fn parse_retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let millis = text("retry-after-ms").and_then(|value| value.parse::<f64>().ok());
    if let Some(time) = millis.and_then(|millis| Duration::try_from_secs_f64(millis / 1000.0).ok()) {
        return Some(time);
    }
    let value = text("retry-after")?;
    if let Ok(secs) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(secs).ok();
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    // A past date asks for no wait at all.
    Some(date.duration_since(jiff::Timestamp::now()).try_into().unwrap_or(Duration::ZERO))
}

/// A time to wait in an error's text: `try again in 1m26.4s`, `retry after 9 seconds`, `wait 20s`.
static WAIT_IN_TEXT: LazyLock<Regex> = LazyLock::new(|| {
    const UNIT: &str = "(?:milliseconds?|msecs?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h)";
    let words = r"(?i)\b(?:try again|retry|retrying|wait|resets?|available)\b[^0-9.]{0,24}";
    Regex::new(&format!(r"{words}((?:\d+(?:\.\d+)?\s?{UNIT}[\s,]*(?:and\s)?)+)\b")).expect("a valid pattern")
});

/// The parts of a time to wait.
static WAIT_PART: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)(\d+(?:\.\d+)?) ?([a-z]+)").expect("a valid pattern"));

/// Returns the time to wait that the body of an error names: Google's `RetryInfo`, a field, or words in `text`.
pub(super) fn find_wait_in_body(error: &Value, text: &str) -> Option<Duration> {
    let mut details = error.get("details").and_then(Value::as_array).into_iter().flatten();
    let retry_info = details.find_map(|detail| detail.get("retryDelay").or_else(|| detail.get("retry_delay")));
    let fields = [
        ("/retry_after", 1.0),
        ("/retryAfter", 1.0),
        ("/retry_after_seconds", 1.0),
        ("/retry_after_ms", 1000.0),
        ("/metadata/retry_after", 1.0),
        ("/metadata/headers/Retry-After", 1.0),
        ("/metadata/retry_after_seconds", 1.0),
    ];
    retry_info
        .and_then(|delay| parse_delay(delay, 1.0))
        .or_else(|| fields.iter().find_map(|(pointer, parts)| parse_delay(error.pointer(pointer)?, *parts)))
        .or_else(|| parse_wait_words(WAIT_IN_TEXT.captures(text)?.get(1)?.as_str()))
}

/// Parses a delay: a number, of which `parts` are a second, `"9.5s"`, or an object with seconds and nanoseconds.
pub(super) fn parse_delay(delay: &Value, parts: f64) -> Option<Duration> {
    match delay {
        Value::Number(number) => Duration::try_from_secs_f64(number.as_f64()? / parts).ok(),
        Value::String(text) => match text.trim().parse::<f64>() {
            Ok(number) => Duration::try_from_secs_f64(number / parts).ok(),
            Err(_) => parse_wait_words(text),
        },
        Value::Object(fields) => {
            let seconds = fields.get("seconds")?;
            let seconds = seconds.as_f64().or_else(|| seconds.as_str()?.parse().ok())?;
            Duration::try_from_secs_f64(seconds).ok()
        }
        _ => None,
    }
}

/// Parses a time with units, such as `1m26.4s` or `2 minutes 5 seconds`.
fn parse_wait_words(text: &str) -> Option<Duration> {
    let mut seconds = None;
    for part in WAIT_PART.captures_iter(text) {
        let unit = match part[2].to_ascii_lowercase().as_str() {
            "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => 0.001,
            "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
            _ => break,
        };
        seconds = Some(seconds.unwrap_or(0.0) + part[1].parse::<f64>().ok()? * unit);
    }
    Duration::try_from_secs_f64(seconds?).ok()
}
